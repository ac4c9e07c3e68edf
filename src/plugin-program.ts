/**
 * Where the plugin as a small program of its own lies (scripts/engine/): in the single file, which is built with it in this
 * module's place. undefined where it could not be built, and in a checkout: then the large program is the plugin.
 */
export const smallProgram = (): string | undefined => undefined;
