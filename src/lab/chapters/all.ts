import type { Chapter } from "../story.ts";
import type { World } from "../world.ts";
import { masqueradeFollows, snatStays } from "./address-change.ts";
import { fullPicture } from "./full-picture.ts";
import { ipv6Chapter } from "./ipv6.ts";
import { forwardingOff, neighbours, noWayBack } from "./no-way-out.ts";
import { programsChapter } from "./ebpf.ts";
import { teardown } from "./teardown.ts";
import { conntrackChapter, masqueradeChapter } from "./way-out.ts";

/** The story, in order. */
export const CHAPTERS: readonly Chapter<World>[] = [
  neighbours,
  forwardingOff,
  noWayBack,
  masqueradeChapter,
  conntrackChapter,
  masqueradeFollows,
  snatStays,
  ipv6Chapter,
  fullPicture,
  programsChapter,
  teardown,
];
