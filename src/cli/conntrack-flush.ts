import { Command } from "commander";
import { WayoutError } from "../error.ts";
import { deleteProgramFlows, isProgramFlow, scanProgramFlows } from "../flows/program-flows.ts";
import { FlowPrinter } from "../flows/flow-printer.ts";
import { flowRecord } from "../flows/flow-record.ts";
import type { ConntrackEntry } from "../linux/conntrack/entry.ts";
import type { EntryScan } from "../linux/conntrack/scan.ts";
import { untilOutputCloses, writeOut } from "./byte-sink.ts";
import { compiledFilterOf, withFilters, type FlowTableOptions } from "./conntrack-options.ts";
import { emptyTableHint, openTable, podReader } from "./conntrack-table.ts";
import { note, printJson } from "./output.ts";

interface FlushOptions extends FlowTableOptions {
  all?: boolean;
  dryRun?: boolean;
}

/** A person reads this many lines; the rest is a number. --json has them all. */
const SHOWN_LINES = 200;
/** Entries deleted in one go: they are held in memory until then. */
const BATCH_ENTRIES = 4096;

export function flushCommand(): Command {
  const command = new Command("flush")
    .description("delete tracked flows: those that it shows")
    .addHelpText("after", HELP)
    .option("--all", "every flow of the namespace")
    .option("--dry-run", "show what would be deleted, and delete nothing")
    .option("--json", "one JSON value");
  return withFilters(command).action((options: FlushOptions) => untilOutputCloses(() => flush(options)));
}

async function flush(options: FlushOptions): Promise<void> {
  const filter = await compiledFilterOf(options);
  if (filter.takesAll !== (options.all === true)) throw filterMistake(filter.takesAll);
  using opened = await openTable(options.netns);
  const pods = (await podReader(true))();
  const printer = new FlowPrinter({ pods, nowMs: Date.now() }, writeOut);
  const chosen: ConntrackEntry[] = [];
  const choose = (scan: EntryScan): void => {
    if (!filter.matches(scan)) return;
    chosen.push(scan.entry());
    if (options.json !== true && chosen.length <= SHOWN_LINES) printer.print(scan);
  };
  opened.table.scan(choose, filter.kernel);
  scanProgramFlows(opened.namespace, choose);
  printer.flush();
  if (chosen.length > SHOWN_LINES && options.json !== true) note(`… and ${chosen.length - SHOWN_LINES} more`);
  let deleted = 0;
  for (let at = 0; at < chosen.length && options.dryRun !== true; at += BATCH_ENTRIES) {
    const batch = chosen.slice(at, at + BATCH_ENTRIES);
    deleted += opened.table.deleteEntries(batch.filter((entry) => !isProgramFlow(entry)));
    deleted += deleteProgramFlows(opened.namespace, batch.filter(isProgramFlow));
  }
  if (options.json === true) {
    const flows = chosen.map((entry) => flowRecord(entry, pods));
    printJson({ dryRun: options.dryRun === true, matched: chosen.length, deleted, flows });
    return;
  }
  const flows = (count: number): string => `${count} ${count === 1 ? "flow" : "flows"}`;
  if (options.dryRun === true) note(`${flows(chosen.length)} would be deleted`);
  else note(`${flows(deleted)} deleted${endedBefore(chosen.length - deleted)}`);
  const hint = chosen.length === 0 ? await emptyTableHint(opened) : undefined;
  if (hint !== undefined) note(hint);
}

function endedBefore(count: number): string {
  return count === 0 ? "" : `; ${count} had ended already`;
}

function filterMistake(withoutFilter: boolean): WayoutError {
  return new WayoutError({
    code: withoutFilter ? "flush-needs-filter" : "flush-all-with-filter",
    kind: "usage",
    doing: "flushing the connection tracking table",
    said: withoutFilter
      ? "without a filter this would end every translated connection of the namespace"
      : "--all and a filter contradict each other",
    todo: withoutFilter
      ? "Name the flows (--dst, --pod, …; --dry-run shows them), or give --all."
      : "Leave one of them out.",
  });
}

const HELP = `
A translated connection does not survive this: its next packet is handled as that of a new one. That is the cure for
flows that keep an old translation, e.g. after the outgoing address has changed.
Entries are deleted one by one, by their identity: what is not shown stays.

Examples:
  wayout conntrack flush --reply-dst 203.0.113.5 --dry-run
  wayout conntrack flush --proto udp --dport 53 --unreplied
  wayout conntrack flush --all`;
