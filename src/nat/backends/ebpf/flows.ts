/** What the programs have written down: their flows, and what they count. For those who show it; nothing is changed. */
import { ipBytes, ipText, type IpFamily } from "../../../address/ip.ts";
import { BpfMap } from "../../../kernel/bpf/map.ts";
import type { NetworkNamespace } from "../../../kernel/namespace.ts";
import { holdsPrograms, namespaceDirectory } from "./bpf-directory.ts";
import { programClock } from "./maps.ts";
import { COUNTS, FLOW, isLivingFlow, numberKey, TIMEOUTS } from "./layout.ts";
import { IP_PROTOCOL } from "../../../linux/ip-protocol.ts";
import { present } from "../../../present.ts";

/** One end of a packet; of ICMP the number of the echo stands for the port of the one who asks, 0 for the other's. */
export interface FlowEnd {
  readonly address: string;
  readonly port: number;
}

export interface EbpfFlow {
  /** Its place among the flows; and its life there, of many that a place has one after the other. */
  readonly slot: number;
  readonly life: number;
  readonly family: IpFamily;
  /** IPPROTO_*. */
  readonly protocol: number;
  /** False: begun outside, and written down so that its answers pass as they are. */
  readonly translated: boolean;
  /** As the one who is translated sends it. */
  readonly source: FlowEnd;
  readonly destination: FlowEnd;
  /** As whom it is seen outside; absent when it is not translated. */
  readonly seenAs?: FlowEnd;
  /** Of TCP, as the kernel's settings of connection tracking call it: "established". */
  readonly state?: (typeof TIMEOUTS)[number];
  /** Whether the other side has answered. */
  readonly answered: boolean;
  readonly secondsLeft: number;
  /** Index of the link by which it leaves. */
  readonly interface: number;
  /** From the one who began, and back. */
  readonly packets: readonly [bigint, bigint];
  readonly bytes: readonly [bigint, bigint];
}

/** Living flows; undefined where there are no programs of ours. @throws SystemError EPERM */
export function ebpfFlows(namespace: NetworkNamespace): EbpfFlow[] | undefined {
  using flows = openMap(namespace, "flows");
  using cursor = openMap(namespace, "cursor_map");
  const used = cursor?.get(numberKey(0));
  if (flows === undefined || used === undefined) return undefined;
  // struct cursor: sweep, fresh. Places behind the last one that was ever used are empty.
  const count = Math.min(new DataView(used.buffer).getUint32(4, true), flows.definition.entries);
  const now = programClock();
  const found: EbpfFlow[] = [];
  let slot = 0;
  for (const record of flows.values(count)) {
    const flow = flowOf(record, slot++, now);
    if (flow !== undefined) found.push(flow);
  }
  return found;
}

/** Both ends of what leaves, as it is before it is translated. */
export type LeavingEnds = Pick<EbpfFlow, "family" | "protocol" | "source" | "destination">;

/** The living flow of these ends; undefined where there is none. Two look-ups, however many there are. */
export function ebpfFlowOf(namespace: NetworkNamespace, ends: LeavingEnds): EbpfFlow | undefined {
  using places = openMap(namespace, "places");
  const place = places?.get(leavingKey(ends));
  if (place === undefined) return undefined;
  // struct place: slot, life.
  const [slot, life] = new Uint32Array(place.buffer, place.byteOffset, 2);
  using flows = openMap(namespace, "flows");
  const record = flows?.get(numberKey(slot!));
  const flow = record === undefined ? undefined : flowOf(record, slot!, programClock());
  return flow?.life === life ? flow : undefined;
}

/** struct tuple of what leaves. */
function leavingKey({ family, protocol, source, destination }: LeavingEnds): Uint8Array {
  const { tuple } = FLOW;
  const key = new Uint8Array(FLOW.arriving - FLOW.leaving);
  const view = new DataView(key.buffer);
  key.set(ipBytes(source.address), tuple.source);
  key.set(ipBytes(destination.address), tuple.destination);
  view.setUint16(tuple.sourcePort, source.port);
  view.setUint16(tuple.destinationPort, destination.port);
  view.setUint8(tuple.protocol, protocol);
  view.setUint8(tuple.family, family);
  return key;
}

/** Totals of all processors, by what is counted (COUNTS); undefined where there are no programs of ours. */
export function ebpfCounts(namespace: NetworkNamespace): Map<string, bigint> | undefined {
  using counts = openMap(namespace, "counts");
  if (counts === undefined) return undefined;
  return new Map(COUNTS.map((name, index) => [name, counts.sum(index)]));
}

/** How many flows there is room for; undefined where there are no programs of ours. */
export function ebpfRoom(namespace: NetworkNamespace): number | undefined {
  using flows = openMap(namespace, "flows");
  return flows?.definition.entries;
}

function openMap(namespace: NetworkNamespace, name: string): BpfMap | undefined {
  const directory = namespaceDirectory(namespace);
  if (directory === undefined || !holdsPrograms(namespace)) return undefined;
  return BpfMap.pinned(`${directory}/${name}`, name);
}

/** undefined for a place that is free, or whose flow has expired. */
function flowOf(record: Uint8Array, slot: number, now: number): EbpfFlow | undefined {
  const view = new DataView(record.buffer, record.byteOffset, record.byteLength);
  if (!isLivingFlow(record, now)) return undefined;
  const expires = Number(view.getBigUint64(FLOW.expires, true));
  const translated = view.getUint8(FLOW.kind) === FLOW.translated;
  const leaving = FLOW.leaving;
  const protocol = view.getUint8(leaving + FLOW.tuple.protocol);
  const family = view.getUint8(leaving + FLOW.tuple.family) === 4 ? 4 : 6;
  const end = (at: number, address: number, port: number): FlowEnd => ({
    address: ipText(record, at + address, at + address + (family === 4 ? 4 : 16)),
    port: view.getUint16(at + port),
  });
  const { source, destination, sourcePort, destinationPort } = FLOW.tuple;
  const state = TIMEOUTS[view.getUint8(FLOW.state)];
  const pair = (at: number): [bigint, bigint] => [
    view.getBigUint64(at, true),
    view.getBigUint64(at + 8, true),
  ];
  return present({
    slot,
    life: view.getUint32(FLOW.life, true),
    family,
    protocol,
    translated,
    source: end(leaving, source, sourcePort),
    destination: end(leaving, destination, destinationPort),
    seenAs: translated ? end(FLOW.arriving, destination, destinationPort) : undefined,
    state: protocol === IP_PROTOCOL.tcp && state !== undefined ? state : undefined,
    answered: view.getUint8(FLOW.answered) !== 0,
    secondsLeft: Math.max(0, Math.floor((expires - now) / 1e9)),
    interface: view.getUint32(FLOW.interface, true),
    packets: pair(FLOW.packets),
    bytes: pair(FLOW.bytes),
  });
}
