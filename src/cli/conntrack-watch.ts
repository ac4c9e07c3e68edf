import { note } from "./output.ts";
import { jsonText } from "../text/json.ts";
import { Command } from "commander";
import { ProgramFlowWatch } from "../flows/program-flow-watch.ts";
import { FlowPrinter } from "../flows/flow-printer.ts";
import { flowRecord } from "../flows/flow-record.ts";
import { FlowWatch, type FlowWatcher } from "../flows/flow-watch.ts";
import type { PodIndex } from "../flows/flow.ts";
import { phrase, type Phrase } from "../flows/byte-text.ts";
import {
  CONNTRACK_EVENT_KINDS,
  ConntrackEvents,
  type ConntrackEventKind,
} from "../kernel/conntrack/events.ts";
import { EntryScan } from "../linux/conntrack/scan.ts";
import { readSysctl } from "../kernel/sysctl.ts";
import { Wire } from "../linux/netlink/wire.ts";
import { checkOutput, untilOutputCloses, writeOut } from "./byte-sink.ts";
import {
  badOption,
  compiledFilterOf,
  countOf,
  withFilters,
  type FlowTableOptions,
} from "./conntrack-options.ts";
import { checkNamespace, emptyTableHint, openTable, podReader } from "./conntrack-table.ts";
import { present } from "../present.ts";

interface WatchOptions extends FlowTableOptions {
  events?: string;
  count?: string;
  buffer?: string;
  pods: boolean;
}

/** How long a watch sleeps when nothing happens, before it looks whether its reader and its namespace are still there. */
const IDLE_MS = 1000;

const OLDER_FLOWS =
  "For flows that began before a program listened, the kernel announces neither changes nor their end; sysctl -w net.netfilter.nf_conntrack_events=1 changes that for later ones.";

const encoder = new TextEncoder();

export function watchCommand(): Command {
  const command = new Command("watch")
    .description("events of flows as they happen")
    .addHelpText("after", HELP)
    .option("--events <KINDS>", "only these of new, update and destroy, separated by commas")
    .option("--count <N>", "end after N lines")
    .option("--buffer <MB>", "buffer for events that wait to be read", "128")
    .option("--json", "one JSON object a line")
    .option("--no-pods", "do not look up which pod an address belongs to");
  return withFilters(command).action((options: WatchOptions) => untilOutputCloses(() => watch(options)));
}

async function watch(options: WatchOptions): Promise<void> {
  const filter = await compiledFilterOf(options);
  const shown = new Set(kindsOf(options.events));
  const limit = options.count === undefined ? Number.POSITIVE_INFINITY : countOf("--count", options.count);
  const receiveBufferBytes = countOf("--buffer", options.buffer ?? "128") * 1024 * 1024;
  using opened = await openTable(options.netns);
  const pods = (await podReader(options.pods))();
  using events = ConntrackEvents.open(
    present({
      // What appears and vanishes must be known in any case; updates are only worth their number when they are shown.
      kinds: CONNTRACK_EVENT_KINDS.filter((kind) => kind !== "update" || shown.has(kind)),
      receiveBufferBytes,
      namespace: opened.namespace,
    }),
  );
  const out =
    options.json === true ? new JsonWatcher(shown, limit, pods) : new TextWatcher(shown, limit, pods);
  const watch = new FlowWatch(
    events,
    opened.table,
    filter,
    out,
    new ProgramFlowWatch(opened.namespace, filter),
  );
  // Which flows have events at all is decided when they begin (nf_ct_ecache_ext_add).
  const silent = readSysctl(opened.namespace, "net.netfilter.nf_conntrack_events") === "2";
  if (options.json === true) {
    writeOut(
      encoder.encode(`${jsonText({ event: "watching", flows: watch.flows, olderFlowsAreSilent: silent })}\n`),
    );
  } else {
    const hint = watch.flows === 0 ? await emptyTableHint(opened) : undefined;
    note(hint ?? `${watch.flows} flows now; watching. Ctrl-C ends it.`);
    if (silent && watch.flows > 0) note(OLDER_FLOWS);
  }
  while (!out.full) {
    // The thread sleeps in the kernel; nothing of wayout needs it meanwhile, and Ctrl-C ends the process.
    if (watch.next(IDLE_MS) > 0) continue;
    checkOutput();
    checkNamespace(opened);
  }
}

function kindsOf(text: string | undefined): readonly ConntrackEventKind[] {
  if (text === undefined) return CONNTRACK_EVENT_KINDS;
  return text.split(",").map((word) => {
    const kind = CONNTRACK_EVENT_KINDS.find((known) => known === word);
    if (kind === undefined)
      throw badOption("--events", `"${word}" is none of ${CONNTRACK_EVENT_KINDS.join(", ")}`);
    return kind;
  });
}

/** What both forms share: which kinds are shown, and how many lines yet. */
abstract class Watcher implements FlowWatcher {
  #left: number;

  constructor(
    readonly shown: ReadonlySet<ConntrackEventKind>,
    limit: number,
  ) {
    this.#left = limit;
  }

  /** Whether all lines that were asked for are out. */
  get full(): boolean {
    return this.#left <= 0;
  }

  changed(kind: ConntrackEventKind, scan: EntryScan, missed: boolean): void {
    if (this.shown.has(kind) && this.#left-- > 0) this.print(kind, scan, missed);
  }

  vanished(memory: Uint8Array): void {
    if (this.shown.has("destroy") && this.#left-- > 0) this.printVanished(memory);
  }

  protected abstract print(kind: ConntrackEventKind, scan: EntryScan, missed: boolean): void;
  protected abstract printVanished(memory: Uint8Array): void;
  abstract remember(scan: EntryScan): Uint8Array;
  abstract lost(count: number | undefined): void;
  abstract resynced(flows: number): void;
  abstract settled(): void;
}

const TAGS: Readonly<Record<ConntrackEventKind, readonly [seen: Phrase, missed: Phrase]>> = {
  new: [phrase("new      "), phrase("new?     ")],
  update: [phrase("update   "), phrase("update?  ")],
  destroy: [phrase("destroy  "), phrase("destroy? ")],
};

class TextWatcher extends Watcher {
  readonly #printer: FlowPrinter;
  readonly #memory: FlowPrinter;
  #remembered = new Uint8Array();

  constructor(shown: ReadonlySet<ConntrackEventKind>, limit: number, pods: PodIndex) {
    super(shown, limit);
    const context = { pods, nowMs: Date.now() };
    this.#printer = new FlowPrinter(context, writeOut);
    this.#memory = new FlowPrinter(context, (bytes) => {
      this.#remembered = bytes.slice();
    });
  }

  protected print(kind: ConntrackEventKind, scan: EntryScan, missed: boolean): void {
    this.#printer.print(scan, TAGS[kind][missed ? 1 : 0]);
  }

  remember(scan: EntryScan): Uint8Array {
    this.#memory.print(scan);
    this.#memory.flush();
    return this.#remembered;
  }

  protected printVanished(memory: Uint8Array): void {
    this.#printer.flush();
    writeOut(encoder.encode("destroy? "));
    writeOut(memory);
  }

  lost(count: number | undefined): void {
    this.#comment(
      `${count ?? "some"} events were lost, because they came faster than they were read; reading the table again`,
    );
  }

  resynced(flows: number): void {
    this.#comment(
      `the table was read again: ${flows} flows. Lines with ? were missed as events; updates may be missing`,
    );
  }

  settled(): void {
    this.#printer.flush();
  }

  #comment(text: string): void {
    this.#printer.flush();
    writeOut(encoder.encode(`# ${text}\n`));
  }
}

class JsonWatcher extends Watcher {
  #lines: string[] = [];

  constructor(
    shown: ReadonlySet<ConntrackEventKind>,
    limit: number,
    readonly pods: PodIndex,
  ) {
    super(shown, limit);
  }

  protected print(kind: ConntrackEventKind, scan: EntryScan, missed: boolean): void {
    this.#add({ event: kind, missed, flow: flowRecord(scan.entry(), this.pods) });
  }

  remember(scan: EntryScan): Uint8Array {
    // The message itself; the flow is made of it when it is needed.
    return scan.wire.bytes.slice(scan.start, scan.end);
  }

  protected printVanished(memory: Uint8Array): void {
    const scan = new EntryScan();
    scan.point(new Wire(memory), 0, memory.length);
    this.#add({ event: "destroy", missed: true, flow: flowRecord(scan.entry(), this.pods) });
  }

  lost(count: number | undefined): void {
    this.#add({ event: "lost", count: count ?? null });
  }

  resynced(flows: number): void {
    this.#add({ event: "resynced", flows });
  }

  settled(): void {
    if (this.#lines.length > 0) writeOut(encoder.encode(this.#lines.join("")));
    this.#lines = [];
  }

  #add(value: object): void {
    this.#lines.push(`${jsonText(value)}\n`);
  }
}

const HELP = `
Each line begins with new, update or destroy; the rest is as 'wayout conntrack list' has it. The kernel says less in an
event than in a list: the state only when it changed, so that a filter by --state sees only such events.

When events come faster than they are read, the kernel drops some. wayout then prints how many and reads the table
again: flows that came or went meanwhile have a ? behind the word.

By default the kernel makes events only for flows that began while a program listened (nf_conntrack_events = 2): the end
of an older flow is printed only when the table is read again.

Connections that our eBPF programs translate (backend ebpf) are looked at some times a second, for nobody announces them.

With --json the first line says how many flows there are: {"event":"watching",…}. Then come new, update and destroy,
each with its flow, and lost and resynced after an overrun.

Examples:
  wayout conntrack watch --pod ns-blue
  wayout conntrack watch --events new --proto udp --dport 53
  wayout conntrack watch --json | jq -c 'select(.event == "destroy") | .flow.translation'`;
