import { Command } from "commander";
import { culpritText } from "../agent/culprit.ts";
import { Journal, type StoredEvent } from "../agent/journal/journal.ts";
import { JOURNAL_PATH } from "../agent/journal/path.ts";
import { momentText, parseMoment } from "./moment.ts";
import { printJson, tell } from "./output.ts";
import { style, table } from "./style.ts";

const HELP = `
What an agent ('wayout agent') saw, repaired and could not repair. Times are 14:03, 10m (so long ago) or 2026-11-28T14:03.

Examples:
  sudo wayout history                        the last hour
  sudo wayout history --since 14:00 blue     events of the pod blue since two o'clock
  sudo wayout doctor --at 14:03              the checklist as it was then`;

interface HistoryOptions {
  readonly since: string;
  readonly until?: string;
  readonly journal: string;
  readonly json?: true;
}

/** `wayout history`. */
export function historyCommand(): Command {
  return new Command("history")
    .description("what changed on this node, when, and by which program")
    .argument("[pod]", "only events of this pod")
    .option("--since <time>", "since this time", "1h")
    .option("--until <time>", "until this time")
    .option("--journal <file>", "the agent's journal", JOURNAL_PATH)
    .option("--json", "one JSON value")
    .addHelpText("after", HELP)
    .action((pod: string | undefined, options: HistoryOptions) => {
      using journal = Journal.read(options.journal);
      const events = journal.events({
        since: parseMoment(options.since),
        ...(options.until === undefined ? {} : { until: parseMoment(options.until) }),
        ...(pod === undefined ? {} : { pod }),
      });
      if (options.json === true)
        printJson(events.map(({ at, ...event }) => ({ at: new Date(at).toISOString(), ...event })));
      else tell(historyText, events, journal.beginsAt());
    });
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
  const who =
    by === undefined
      ? ""
      : style.quiet(`${by.certainty === "guessed" ? "likely " : ""}by ${culpritText(by)}`);
  const said = kind === "repair" ? `put back: ${text}` : text;
  return [
    [momentText(at), MARKS[kind], said, kind === "rules" ? "" : who],
    ...effects.map(({ pod, became, text }) => ["", "", `${style.strong(pod)} ${became}: ${text}`]),
  ];
}
