import { endText } from "../address/ip.ts";
import { Command } from "commander";
import {
  explainCounters,
  FlowTally,
  NAT_PORTS,
  type ExplainedCounter,
  type FlowSummary,
} from "../flows/flow-statistics.ts";
import { scanProgramFlows } from "../flows/program-flows.ts";
import type { ConntrackStatistics } from "../kernel/conntrack/conntrack.ts";
import { countOf, portsOf } from "./conntrack-options.ts";
import { accountingHint, emptyTableHint, openTable, podReader, scanTable } from "./conntrack-table.ts";
import { note, printJson, tell } from "./output.ts";
import { style, table } from "./style.ts";

interface StatsOptions {
  netns?: string;
  json?: boolean;
  top: string;
  ports?: string;
  destinations: boolean;
}

/** Shares from which a person should worry, and from which it hurts. */
const WORRYING = 0.8;
const HURTING = 0.95;
/** Counters that people look for even when they are 0. */
const ASKED_FOR: ReadonlySet<ExplainedCounter["name"]> = new Set(["invalid", "clashResolve"]);
/** So many CPUs are named beside a counter. */
const MOST_CPUS = 4;

export function statsCommand(): Command {
  return new Command("stats")
    .description("how full the table is, what was lost, and which source ports are nearly used up")
    .addHelpText("after", HELP)
    .option("--top <N>", "how many pods, destinations and port groups to name", "10")
    .option("--ports <RANGE>", "the source ports that NAT may take, when the rule names a range")
    .option("--netns <NAME>", "the table of another namespace: a name, a path or pid:N")
    .option("--json", "one JSON value")
    .option("--no-destinations", "without the busiest destinations: a large table is counted sooner")
    .action(stats);
}

async function stats(options: StatsOptions): Promise<void> {
  const top = countOf("--top", options.top);
  const ports = options.ports === undefined ? NAT_PORTS : portsOf("--ports", options.ports);
  using opened = await openTable(options.netns);
  const { statistics } = opened;
  const tally = new FlowTally({ expected: statistics.entries, destinations: options.destinations });
  const readPods = await podReader(true);
  scanTable(opened, {}, (scan) => tally.add(scan));
  scanProgramFlows(opened.namespace, (scan) => tally.add(scan));
  const summary = tally.summary(readPods(), top, ports);
  const counters = explainCounters(statistics);
  if (options.json === true) {
    const { entries, maximum, perCpu } = statistics;
    printJson({ table: { entries, maximum }, counters, perCpu, ...summary });
    return;
  }
  tell(statsText, statistics, counters, summary, ports);
  const hint = statistics.entries === 0 ? await emptyTableHint(opened) : accountingHint(opened.namespace);
  if (hint !== undefined) note(hint);
}

function statsText(
  statistics: ConntrackStatistics,
  counters: readonly ExplainedCounter[],
  summary: FlowSummary,
  ports: { first: number; last: number },
): string {
  const sections = [
    tableText(statistics),
    countersText(counters),
    kindsText(summary),
    sourcesText(summary),
    destinationsText(summary),
    portsText(summary, ports),
  ];
  return `${sections.filter((section) => section !== "").join("\n\n")}\n`;
}

function tableText({ entries, maximum }: ConntrackStatistics): string {
  if (maximum === 0) return `${style.strong("Table")}  ${entries} entries, no limit (nf_conntrack_max = 0)`;
  const share = entries / maximum;
  const advice =
    share >= WORRYING ? `\n  ${style.hint("→")} sysctl -w net.netfilter.nf_conntrack_max=${maximum * 2}` : "";
  return `${style.strong("Table")}  ${entries} of ${maximum} entries, ${shareText(share)}${advice}`;
}

function countersText(counters: readonly ExplainedCounter[]): string {
  const rows = counters
    .filter(({ name, value, costsPackets }) => value > 0 || costsPackets || ASKED_FOR.has(name))
    .map((counter) => {
      const value = `${counter.value}${cpusText(counter)}`;
      const shown = counter.value > 0 && counter.costsPackets ? style.bad(value) : value;
      return [`  ${counter.kernelName}`, shown, style.quiet(counter.meaning)];
    });
  return `${style.strong("Counters")} of all CPUs since the namespace began\n${table(rows)}`;
}

/** Which CPUs it was, the busiest first. */
function cpusText({ cpus }: ExplainedCounter): string {
  if (cpus.length === 0) return "";
  const shown = cpus.slice(0, MOST_CPUS).map(({ cpu, value }) => `cpu${cpu} ${value}`);
  return ` (${shown.join(", ")}${cpus.length > MOST_CPUS ? ", …" : ""})`;
}

function kindsText({ kinds }: FlowSummary): string {
  if (kinds.length === 0) return "";
  const rows = kinds.map(({ protocol, state, flows }) => [`  ${protocol}`, state, String(flows)]);
  return `${style.strong("States")}\n${table(rows)}`;
}

function sourcesText({ sources }: FlowSummary): string {
  if (sources.length === 0) return "";
  const rows = sources.map(({ address, pod, flows }) => [`  ${address}`, pod ?? "", String(flows)]);
  return `${style.strong("Top sources")}\n${table(rows)}`;
}

function destinationsText({ destinations }: FlowSummary): string {
  if (destinations.length === 0) return "";
  const rows = destinations.map(({ protocol, address, port, flows }) => [
    `  ${endText(address, port)}`,
    protocol,
    String(flows),
  ]);
  return `${style.strong("Top destinations")}\n${table(rows)}`;
}

function portsText({ portUse }: FlowSummary, { first, last }: { first: number; last: number }): string {
  if (portUse.length === 0) return "";
  const rows = portUse.map(({ protocol, outgoing, destination, port, used, of }) => [
    `  ${protocol} ${outgoing} → ${endText(destination, port)}`,
    `${used} of ${of}`,
    shareText(used / of),
  ]);
  const fullest = portUse[0]!;
  const advice =
    fullest.used / fullest.of >= WORRYING
      ? `\n  ${style.hint("→")} towards one address and port each flow needs a source port of its own: more outgoing addresses, or connections that are kept open and used again`
      : "";
  return `${style.strong("Source ports in use")} (of ${first}–${last})\n${table(rows)}${advice}`;
}

function shareText(share: number): string {
  const text = `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;
  return share >= HURTING ? style.bad(text) : share >= WORRYING ? style.warn(text) : style.good(text);
}

const HELP = `
Source ports: two flows of one protocol to the same address and port must leave with different source ports when they
leave with the same address. The kernel takes them from 1024–65535, or from the range in the rule (give it by --ports).
When they are used up, new connections to that destination fail while all others go on.`;
