/** What conntrack says about one flow while it happens: ctnetlink events, and the entry at the end. */
import { Conntrack } from "../kernel/conntrack/conntrack.ts";
import type { ConntrackEntry, ConntrackTuple } from "../kernel/conntrack/entry.ts";
import { ConntrackEvents } from "../kernel/conntrack/events.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import type { FlowEnds, FlowEvent } from "./evidence.ts";

const RECEIVE_BUFFER_BYTES = 32 * 1024 * 1024;
/** Others' events may come faster than they are read: the flow's own are among the first. */
const MOST_EVENTS = 20_000;

/** Events of one flow in one namespace, from `open` on. */
export class FlowWatch implements Disposable {
  readonly #events: FlowEvent[] = [];

  private constructor(
    readonly namespace: NetworkNamespace,
    readonly source: ConntrackEvents,
    readonly flow: FlowEnds,
  ) {}

  /** @throws SystemError EPROTONOSUPPORT when the kernel has no conntrack */
  static open(namespace: NetworkNamespace, flow: FlowEnds): FlowWatch {
    const source = ConntrackEvents.open({ namespace, receiveBufferBytes: RECEIVE_BUFFER_BYTES });
    return new FlowWatch(namespace, source, flow);
  }

  /** Every event of the flow so far. Should other flows' be too many, the entry itself can still be asked for. */
  events(): readonly FlowEvent[] {
    this.source.read(
      (kind, scan) => {
        const entry = scan.entry();
        if (isEntryOf(entry, this.flow)) this.#events.push({ kind, entry });
      },
      0,
      MOST_EVENTS,
    );
    return this.#events;
  }

  /** The entry as it is now; undefined when there is none. */
  entry(): ConntrackEntry | undefined {
    using conntrack = Conntrack.open(this.namespace);
    return conntrack.get(tupleOf(this.flow));
  }

  close(): void {
    this.source.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

const IPPROTO = { tcp: 6, udp: 17 } as const;
const ECHO_REQUEST = { 4: 8, 6: 128 } as const;

function tupleOf(flow: FlowEnds): ConntrackTuple {
  const { family, protocol, source, destination } = flow;
  if (protocol === "icmp") {
    return {
      source,
      destination,
      protocol: family === 4 ? 1 : 58,
      icmpId: flow.sourcePort,
      icmpType: ECHO_REQUEST[family],
      icmpCode: 0,
    };
  }
  return {
    source,
    destination,
    protocol: IPPROTO[protocol],
    sourcePort: flow.sourcePort,
    ...(flow.destinationPort === undefined ? {} : { destinationPort: flow.destinationPort }),
  };
}

function isEntryOf(entry: ConntrackEntry, flow: FlowEnds): boolean {
  const wanted = tupleOf(flow);
  const { original } = entry;
  return (
    original.protocol === wanted.protocol &&
    original.source === wanted.source &&
    original.destination === wanted.destination &&
    original.sourcePort === wanted.sourcePort &&
    original.destinationPort === wanted.destinationPort &&
    original.icmpId === wanted.icmpId
  );
}
