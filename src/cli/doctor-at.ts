/** `doctor --at`: the node as the agent saw it then. */
import { Journal } from "../agent/journal/journal.ts";
import { checkedSnapshot } from "../snapshot/file.ts";
import type { Snapshot } from "../snapshot/snapshot.ts";
import { momentText, parseMoment } from "./moment.ts";
import { note } from "./output.ts";

/** @throws WayoutError `bad-time`, `no-journal`, `before-the-journal`, `journal-damaged`, `older-snapshot` */
export function snapshotThen(time: string, path: string): Snapshot {
  using journal = Journal.read(path);
  const { at, snapshot } = journal.snapshotAt(parseMoment(time));
  const then = checkedSnapshot(snapshot, `of ${momentText(at)}`);
  note(`The node as the agent saw it at ${momentText(at)}.`);
  return then;
}
