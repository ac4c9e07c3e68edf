/** `doctor --at`: the node as the agent saw it then. */
import { Journal } from "../agent/journal/journal.ts";
import { JOURNAL_PATH } from "../agent/journal/path.ts";
import { checkedSnapshot } from "../snapshot/file.ts";
import type { Snapshot } from "../snapshot/snapshot.ts";
import { agentSaid } from "./agent-said.ts";
import { momentText, parseMoment } from "./moment.ts";
import { note } from "./output.ts";

/**
 * @param journal the file to read; undefined: what the running agent says, and without one the usual file
 * @throws WayoutError `bad-time`, `no-journal`, `before-the-journal`, `journal-damaged`, `older-snapshot`
 */
export async function snapshotThen(time: string, journal: string | undefined): Promise<Snapshot> {
  const at = parseMoment(time);
  const said =
    journal === undefined
      ? await agentSaid<unknown>("/v1/snapshot", { at: new Date(at).toISOString() })
      : undefined;
  const then = checkedSnapshot(said ?? readFrom(journal ?? JOURNAL_PATH, at), `of ${momentText(at)}`);
  note(`The node as the agent saw it at ${momentText(Date.parse(then.takenAt))}.`);
  return then;
}

function readFrom(path: string, at: number): unknown {
  using journal = Journal.read(path);
  return journal.snapshotAt(at).snapshot;
}
