import type { Command } from "commander";

/** A command as the overview lists it. Its file is loaded only when it runs. */
export interface CommandEntry {
  readonly name: string;
  /** One line for `wayout --help`. */
  readonly summary: string;
  readonly load: () => Promise<Command>;
  /** Not for people: processes that wayout starts of itself. */
  readonly hidden?: boolean;
}

/** Every command, in the order in which the overview shows them. */
export const COMMANDS: readonly CommandEntry[] = [];
