import { note } from "./output.ts";
import { Command, Option } from "commander";
import { scanProgramFlows } from "../flows/program-flows.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import type { EntryScan } from "../linux/conntrack/scan.ts";
import { SORT_KEYS, type SortKey } from "../flows/flow-sorter.ts";
import { untilOutputCloses } from "./byte-sink.ts";
import { flowOutput, type FlowOutput, type OutputOptions } from "./conntrack-output.ts";
import {
  compiledFilterOf,
  countOf,
  numberOf,
  withFilters,
  type FlowTableOptions,
} from "./conntrack-options.ts";
import {
  accountingHint,
  emptyTableHint,
  offloadHint,
  openTable,
  podReader,
  scanTable,
  type OpenTable,
} from "./conntrack-table.ts";
import { present } from "../present.ts";

interface ListOptions extends FlowTableOptions {
  sort?: SortKey;
  reverse?: boolean;
  limit?: string;
  offset?: string;
  ofPods?: true;
  jsonLines?: boolean;
  pods: boolean;
}

export function conntrackListCommand(): Command {
  const command = new Command("list")
    .description("the tracked flows, each shown as a translation")
    .addHelpText("after", HELP)
    .addOption(new Option("--sort <KEY>", "in order; numbers from large to small").choices(SORT_KEYS))
    .option("--reverse", "in reverse order")
    .option("--limit <N>", "the first N only")
    .option("--offset <N>", "without the first N: the pages of a long list")
    .option("--of-pods", "flows of this node's pods only")
    .option("--json", "one JSON array, one flow a line")
    .option("--json-lines", "one JSON object a line, without an array around them: for streams and jq")
    .option("--no-pods", "do not look up which pod an address belongs to");
  return withFilters(command).action((options: ListOptions) => untilOutputCloses(() => list(options)));
}

async function list(options: ListOptions): Promise<void> {
  const limit = options.limit === undefined ? Number.POSITIVE_INFINITY : countOf("--limit", options.limit);
  const offset = options.offset === undefined ? 0 : numberOf("--offset", options.offset);
  const asJson = options.json === true || options.jsonLines === true;
  // Who reads JSON is not told how many there are, so that nobody has to count them.
  const enough = asJson && options.sort === undefined ? offset + limit : Number.POSITIVE_INFINITY;
  using opened = await openTable(options.netns);
  const readPods = await podReader(options.pods);
  const filter = await compiledFilterOf(
    options,
    options.ofPods === true ? await addressesOfPods(opened.namespace) : undefined,
  );
  let matched = 0;
  let output: FlowOutput | undefined;
  // Made at the first flow: while the pods' names are read, the kernel goes on dumping in another thread.
  const theOutput = (): FlowOutput =>
    (output ??= flowOutput(outputOptions(options, { limit, offset }, opened), {
      pods: readPods(),
      nowMs: Date.now(),
    }));
  const add = (scan: EntryScan): boolean => {
    if (!filter.matches(scan)) return true;
    theOutput().add(scan);
    return ++matched < enough;
  };
  scanTable(opened, filter.kernel, add, enough);
  const beside = matched < enough ? scanProgramFlows(opened.namespace, add) : 0;
  theOutput().end();
  if (asJson) return;
  await sayMore(opened, matched, { limit, offset }, filter.takesAll, beside);
  if (options.offloaded === true && matched === 0) note(offloadHint(opened.namespace));
}

/** What other namespaces have as well as the node itself is nobody's address among its flows but its own. */
async function addressesOfPods(node: NetworkNamespace | undefined): Promise<string[]> {
  using route = Rtnetlink.open(node);
  const own = new Set(route.addresses().map(({ address }) => address));
  return [...(await podReader(true))().keys()].filter((address) => !own.has(address));
}

interface Part {
  readonly limit: number;
  readonly offset: number;
}

function outputOptions(options: ListOptions, part: Part, { statistics }: OpenTable): OutputOptions {
  const form = options.jsonLines === true ? "lines" : options.json === true ? "array" : "text";
  return {
    form,
    ...part,
    expected: statistics.entries,
    ...present({ sort: options.sort, reverse: options.reverse }),
  };
}

/** @param beside how many there are that the kernel does not track */
async function sayMore(
  opened: OpenTable,
  matched: number,
  { limit, offset }: Part,
  takesAll: boolean,
  beside: number,
): Promise<void> {
  const entries = opened.statistics.entries + beside;
  const shown = Math.min(Math.max(0, matched - offset), limit);
  const of = takesAll || matched === entries ? "" : ` of ${entries}`;
  const flows = of === "" && matched === 1 ? "flow" : "flows";
  note(shown < matched ? `${shown} of ${matched} flows shown` : `${matched}${of} ${flows}`);
  if (beside > 0) return;
  const hint = matched === 0 ? await emptyTableHint(opened) : accountingHint(opened.namespace);
  if (hint !== undefined) note(hint);
}

const HELP = `
A line says: protocol, state, seconds until the kernel forgets the flow, and the translation:

  tcp    ESTABLISHED  86399s  10.0.0.1:5432 ↔ 203.0.113.5:5432 → 198.51.100.80:443  pod=ns-blue assured

Left of → is the source, with ↔ and the address that the outside sees when it is translated; right of → the destination,
with ↔ and the address that really answers. ICMP shows its id behind #. Then, where they are known:
the pod, ↑packets/bytes sent and ↓received, age, unreplied, assured, mark, zone, helper, labels. eBPF: it is tracked and
translated by our programs (backend ebpf), and stands in no table of the kernel.

Repeated filters of one kind, or values with commas, mean "one of them"; different kinds must all fit.
Status, mark, family, zone and whole addresses are filtered by the kernel itself.

Examples:
  wayout conntrack list --state ESTABLISHED --snat
  wayout conntrack list --pod ns-blue --dst 198.51.100.0/24 --dport 443,8000-8999
  wayout conntrack list --sort bytes --limit 20
  wayout conntrack list --sort bytes --limit 20 --offset 20      the next twenty
  wayout conntrack list --json-lines --proto tcp | jq 'select(.timeoutSeconds < 60)'`;
