import { Command } from "commander";
import { eventAsJson } from "../agent/api/event-feed.ts";
import type { NodeAnswer } from "../agent/api/view.ts";
import { byCulprit } from "../agent/culprit.ts";
import { Journal, type EventQuery, type StoredEvent } from "../agent/journal/journal.ts";
import { JOURNAL_PATH } from "../agent/journal/path.ts";
import { agentsEvents } from "./agent-history.ts";
import { agentSaid } from "./agent-said.ts";
import { momentText, parseMoment } from "./moment.ts";
import { note, printJson, tell } from "./output.ts";
import { style, table } from "./style.ts";
import { present } from "../present.ts";

/** The newest ones. */
const MOST_EVENTS = 10_000;

const HELP = `
What an agent ('wayout agent') saw, repaired and could not repair. Times are 14:03, 10m (so long ago) or 2026-11-28T14:03.

Examples:
  sudo wayout history                        the last hour
  sudo wayout history --since 14:00 blue     events of the pod blue since two o'clock
  sudo wayout doctor --at 14:03              the checklist as it was then`;

interface HistoryOptions {
  readonly since: string;
  readonly until?: string;
  readonly journal?: string;
  readonly json?: true;
}

/** `wayout history`. */
export function historyCommand(): Command {
  return new Command("history")
    .description("what changed on this node, when, and by which program")
    .argument("[pod]", "only events of this pod")
    .option("--since <time>", "since this time", "1h")
    .option("--until <time>", "until this time")
    .option(
      "--journal <file>",
      `a journal to read instead of asking the agent; default where no agent runs: ${JOURNAL_PATH}`,
    )
    .option("--json", "one JSON value")
    .addHelpText("after", HELP)
    .action(async (pod: string | undefined, options: HistoryOptions) => {
      const { events, beginsAt } = await readPast(
        options,
        present({
          since: parseMoment(options.since),
          until: options.until === undefined ? undefined : parseMoment(options.until),
          pod,
        }),
      );
      if (options.json === true) printJson(events.map(({ id, ...event }) => eventAsJson(event, id)));
      else tell(historyText, events, beginsAt);
    });
}

interface Past {
  readonly events: readonly StoredEvent[];
  /** From when on there is anything. */
  readonly beginsAt: number | undefined;
}

/** A running agent says it, wherever its journal is; without one, the journal that the last one left. */
async function readPast({ journal, json }: HistoryOptions, query: EventQuery): Promise<Past> {
  const said = journal === undefined ? await agentsPast(query) : undefined;
  if (said !== undefined) return said;
  using file = Journal.read(journal ?? JOURNAL_PATH);
  if (journal === undefined && json !== true)
    note(`As the journal ${file.path} has it: it is written while an agent runs.`);
  return { events: file.events({ ...query, limit: MOST_EVENTS }), beginsAt: file.beginsAt() };
}

async function agentsPast(query: EventQuery): Promise<Past | undefined> {
  const events = await agentsEvents(query, MOST_EVENTS);
  if (events === undefined) return undefined;
  const node = events.length > 0 ? undefined : await agentSaid<NodeAnswer>("/v1/node");
  const beginsAt = node?.journal?.beginsAt;
  return { events, beginsAt: beginsAt === undefined ? undefined : Date.parse(beginsAt) };
}

function historyText(events: readonly StoredEvent[], beginsAt: number | undefined): string {
  if (events.length > 0) return `${table(events.flatMap(rowsOf))}\n`;
  const since = beginsAt === undefined ? "" : ` The journal begins at ${momentText(beginsAt)}.`;
  return `${style.quiet(`No event in that time.${since}`)}\n`;
}

const MARKS: Readonly<Record<StoredEvent["kind"], string>> = {
  rules: "•",
  network: "•",
  setting: "•",
  repair: style.good("✓"),
  failure: style.bad("✗"),
  fight: style.warn("!"),
  "way-out": "→",
  policy: "•",
  agent: style.quiet("–"),
};

function rowsOf({ at, kind, text, by, effects = [] }: StoredEvent): string[][] {
  const who = by === undefined ? "" : style.quiet(byCulprit(by));
  const said = kind === "repair" ? `put back: ${text}` : text;
  return [
    [momentText(at), MARKS[kind], said, kind === "rules" ? "" : who],
    ...effects.map(({ pod, became, text }) => ["", "", `${style.strong(pod)} ${became}: ${text}`]),
  ];
}
