/** What conntrack says about one flow while it happens: ctnetlink events, and the entry at the end. */
import { icmpProtocol, IP_PROTOCOL } from "../../linux/ip-protocol.ts";
import { Conntrack } from "../../kernel/conntrack/conntrack.ts";
import type { ConntrackEntry, ConntrackTuple } from "../../linux/conntrack/entry.ts";
import { ConntrackEvents } from "../../kernel/conntrack/events.ts";
import type { NetworkNamespace } from "../../kernel/namespace.ts";
import { connectionAtLinks, type SentEnds } from "../../nat/backends/at-links.ts";
import type { FlowEnds, FlowEvent, FlowPattern } from "../evidence.ts";
import { present } from "../../present.ts";
import { ECHO_REQUEST } from "../../linux/icmp.ts";

const RECEIVE_BUFFER_BYTES = 32 * 1024 * 1024;
/** Others' events may come faster than they are read: the flow's own are among the first. */
const MOST_EVENTS = 20_000;

/** More than one exchange has; of a flow whose ports are not known yet, others' may be among them. */
const MOST_KEPT = 2000;

/** Events of one flow in one namespace, from `open` on. */
export class TracedFlowEvents implements Disposable {
  readonly #events: FlowEvent[] = [];

  private constructor(
    readonly namespace: NetworkNamespace,
    readonly source: ConntrackEvents,
    readonly pattern: FlowPattern,
  ) {}

  /** @throws SystemError EPROTONOSUPPORT when the kernel has no conntrack */
  static open(namespace: NetworkNamespace, pattern: FlowPattern): TracedFlowEvents {
    const source = ConntrackEvents.open({ namespace, receiveBufferBytes: RECEIVE_BUFFER_BYTES });
    return new TracedFlowEvents(namespace, source, pattern);
  }

  /** Takes what has come, so that the kernel's room does not fill up. */
  read(): void {
    this.source.read(
      (kind, scan) => {
        const entry = scan.entry();
        if (isEntryOf(entry, this.pattern) && this.#events.length < MOST_KEPT)
          this.#events.push({ kind, entry });
      },
      0,
      MOST_EVENTS,
    );
  }

  /** Every event of the flow so far. Should other flows' be too many, the entry itself can still be asked for. */
  events(flow: FlowEnds): readonly FlowEvent[] {
    this.read();
    return this.#events.filter(({ entry }) => isEntryOf(entry, flow));
  }

  /**
   * The entry as it is now; undefined when there is none. The flow may have been begun by either end. Where programs of ours
   * translate it, theirs: the kernel's, if it has one, knows the pod's own address only.
   */
  entry(flow: FlowEnds): ConntrackEntry | undefined {
    const atLinks = sentEnds(flow).reduce<ConntrackEntry | undefined>(
      (found, ends) => found ?? connectionAtLinks(this.namespace, ends),
      undefined,
    );
    if (atLinks !== undefined) return atLinks;
    using conntrack = Conntrack.open(this.namespace);
    const tuple = tupleOf(flow);
    const own = conntrack.get(tuple);
    if (own !== undefined || flow.protocol === "icmp") return own;
    return conntrack.get(tuple, { direction: "reply" });
  }

  close(): void {
    this.source.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** As a pod sends them that began it, and as one that answers. */
function sentEnds({
  family,
  protocol,
  source,
  destination,
  sourcePort,
  destinationPort = 0,
}: FlowEnds): SentEnds[] {
  const number = protocol === "icmp" ? icmpProtocol(family) : IP_PROTOCOL[protocol];
  const [from, to] = [
    { address: source, port: sourcePort },
    { address: destination, port: destinationPort },
  ];
  const ends = { family, protocol: number };
  return [
    { ...ends, source: from, destination: to },
    { ...ends, source: to, destination: from },
  ];
}

function tupleOf(flow: FlowPattern): ConntrackTuple {
  const { family, protocol, source, destination } = flow;
  if (protocol === "icmp") {
    return present({
      source,
      destination,
      protocol: icmpProtocol(family),
      icmpId: flow.sourcePort,
      icmpType: ECHO_REQUEST[family],
      icmpCode: 0,
    });
  }
  return present({
    source,
    destination,
    protocol: IP_PROTOCOL[protocol],
    sourcePort: flow.sourcePort,
    destinationPort: flow.destinationPort,
  });
}

/** By the original tuple; a connection to the pod has the pod in its reply tuple. */
function isEntryOf({ original, reply }: ConntrackEntry, flow: FlowPattern): boolean {
  return isTupleOf(original, flow) || (flow.protocol !== "icmp" && isTupleOf(reply, flow));
}

function isTupleOf(tuple: ConntrackTuple, flow: FlowPattern): boolean {
  const { protocol, source, destination, sourcePort, destinationPort, icmpId } = tupleOf(flow);
  const isPort = (wanted: number | undefined, port: number | undefined): boolean =>
    wanted === undefined || wanted === port;
  return (
    tuple.protocol === protocol &&
    tuple.source === source &&
    tuple.destination === destination &&
    isPort(sourcePort, tuple.sourcePort) &&
    isPort(destinationPort, tuple.destinationPort) &&
    isPort(icmpId, tuple.icmpId)
  );
}
