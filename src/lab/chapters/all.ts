import type { Chapter } from "../story.ts";
import type { World } from "../world.ts";

export const CHAPTERS: readonly Chapter<World>[] = [];
