import { ipBytes } from "../address/ip.ts";
import type { Cidr } from "../address/cidr.ts";
import type { ConntrackFilter, TupleFilter } from "../linux/conntrack/filter.ts";
import type { EntryScan } from "../linux/conntrack/scan.ts";
import { IPS, stateName } from "../linux/conntrack/status.ts";
import type { PortRange } from "../linux/ip-protocol.ts";
import { flowState } from "./flow.ts";
import { present } from "../present.ts";

/** What one direction of a flow must look like. Of a list one must fit. */
export interface DirectionFilter {
  readonly source?: readonly Cidr[];
  readonly destination?: readonly Cidr[];
  readonly sourcePort?: readonly PortRange[];
  readonly destinationPort?: readonly PortRange[];
}

/** Which flows a person wants to see. All of it must fit; an empty filter takes every flow. */
export interface FlowFilter {
  readonly family?: 4 | 6;
  /** IPPROTO_*; one of them. */
  readonly protocols?: readonly number[];
  /** As flowState names them: "ESTABLISHED", "unreplied"; one of them. */
  readonly states?: readonly string[];
  readonly original?: DirectionFilter;
  readonly reply?: DirectionFilter;
  /** Flows that begin at one of these addresses or really lead to it. */
  readonly podAddresses?: readonly string[];
  readonly sourceTranslated?: boolean;
  readonly destinationTranslated?: boolean;
  /** Translated in either way. */
  readonly translated?: boolean;
  readonly unreplied?: boolean;
  readonly assured?: boolean;
  readonly offloaded?: boolean;
  readonly mark?: { readonly value: number; readonly mask: number };
  readonly zone?: number;
}

/** A filter made ready for hundreds of thousands of flows. */
export interface CompiledFilter {
  /** What the kernel is asked to leave out already. */
  readonly kernel: ConntrackFilter;
  /** Whether the flow fits; checks everything, whatever the kernel did. */
  readonly matches: (scan: EntryScan) => boolean;
}

type Check = (scan: EntryScan) => boolean;

export function compileFlowFilter(filter: FlowFilter): CompiledFilter {
  const checks = [...plainChecks(filter), ...statusChecks(filter), ...addressChecks(filter)];
  return { kernel: kernelPart(filter), matches: allOf(checks) };
}

/** Whether a filter would take every flow. */
export function isEmptyFilter(filter: FlowFilter): boolean {
  return [...plainChecks(filter), ...statusChecks(filter), ...addressChecks(filter)].length === 0;
}

function allOf(checks: readonly Check[]): Check {
  const [first, second, ...rest] = checks;
  if (first === undefined) return () => true;
  if (second === undefined) return first;
  if (rest.length === 0) return (scan) => first(scan) && second(scan);
  return (scan) => checks.every((check) => check(scan));
}

function* plainChecks(filter: FlowFilter): Generator<Check> {
  const { family, protocols, states, mark, zone } = filter;
  if (family !== undefined) yield (scan) => scan.family === family;
  if (protocols !== undefined) yield (scan) => protocols.includes(scan.original.protocol);
  if (states !== undefined) yield stateCheck(new Set(states));
  if (mark !== undefined) yield (scan) => (scan.mark & mark.mask) >>> 0 === mark.value >>> 0;
  if (zone !== undefined) yield (scan) => zoneOf(scan) === zone;
}

/** A flow has one zone, which may hold for one of its directions only. */
function zoneOf(scan: EntryScan): number {
  return Math.max(scan.zone, scan.original.zone, scan.reply.zone);
}

/** The state's name is looked up once for each kind of flow. */
function stateCheck(states: ReadonlySet<string>): Check {
  const known = new Map<number, boolean>();
  return (scan) => {
    const { protocol } = scan.original;
    const key = ((protocol << 8) | (scan.state + 1)) * 0x1_0000 + scan.status;
    let fits = known.get(key);
    if (fits === undefined) {
      const name = scan.state < 0 ? undefined : stateName(protocol, scan.state);
      fits = states.has(flowState(present({ protocol, status: scan.status, state: name })));
      known.set(key, fits);
    }
    return fits;
  };
}

function* statusChecks(filter: FlowFilter): Generator<Check> {
  const { value, mask } = statusPart(filter);
  if (mask !== 0) yield (scan) => (scan.status & mask) === value;
  const offload = IPS.OFFLOAD | IPS.HW_OFFLOAD;
  if (filter.offloaded === true) yield (scan) => (scan.status & offload) !== 0;
  if (filter.offloaded === false) yield (scan) => (scan.status & offload) === 0;
  const nat = IPS.SRC_NAT | IPS.DST_NAT;
  if (filter.translated === true) yield (scan) => (scan.status & nat) !== 0;
}

/** What of the filter is a matter of single status bits. */
function statusPart(filter: FlowFilter): { readonly value: number; readonly mask: number } {
  let value = 0;
  let mask = 0;
  const demand = (wanted: boolean | undefined, bit: number): void => {
    if (wanted === undefined) return;
    mask |= bit;
    if (wanted) value |= bit;
  };
  demand(filter.assured, IPS.ASSURED);
  demand(filter.sourceTranslated, IPS.SRC_NAT);
  demand(filter.destinationTranslated, IPS.DST_NAT);
  demand(filter.unreplied === undefined ? undefined : !filter.unreplied, IPS.SEEN_REPLY);
  if (filter.translated === false) demand(false, IPS.SRC_NAT | IPS.DST_NAT);
  return { value, mask };
}

function* addressChecks(filter: FlowFilter): Generator<Check> {
  for (const direction of ["original", "reply"] as const) {
    const wanted = filter[direction];
    if (wanted === undefined) continue;
    for (const end of ["source", "destination"] as const) {
      const cidrs = wanted[end];
      if (cidrs !== undefined) yield cidrCheck(cidrs, (scan) => scan[direction][end]);
      const ports = wanted[`${end}Port`];
      if (ports !== undefined) yield portCheck(ports, (scan) => scan[direction][`${end}Port`]);
    }
  }
  if (filter.podAddresses !== undefined) {
    const isOne = oneOf(filter.podAddresses);
    yield (scan) => isOne(scan, scan.original.source) || isOne(scan, scan.reply.source);
  }
}

/** Quick for any number of addresses: hundreds of pods are looked for in hundreds of thousands of flows. */
function oneOf(addresses: readonly string[]): (scan: EntryScan, offset: number) => boolean {
  const all = addresses.map(ipBytes);
  const first = ({ buffer, byteOffset }: Uint8Array): number => new DataView(buffer, byteOffset).getUint32(0);
  const text = (bytes: Uint8Array): string => bytes.join(" ");
  const four = new Set(all.filter(({ length }) => length === 4).map(first));
  const six = new Set(all.filter(({ length }) => length === 16).map(text));
  return ({ family, wire }, at) =>
    family === 4 ? four.has(wire.view.getUint32(at, false)) : six.has(text(wire.bytes.subarray(at, at + 16)));
}

function cidrCheck(cidrs: readonly Cidr[], offset: (scan: EntryScan) => number): Check {
  const prefixes = cidrs.map((cidr) => prefixOf(cidr.network, cidr.prefixLength));
  return (scan) => prefixes.some((prefix) => prefix(scan, offset(scan)));
}

function portCheck(ranges: readonly PortRange[], portOf: (scan: EntryScan) => number): Check {
  return (scan) => {
    const port = portOf(scan);
    return ranges.some(({ first, last }) => port >= first && port <= last);
  };
}

/** Whether the address at an offset of the wire lies in a prefix. */
function prefixOf(network: string, prefixLength: number): (scan: EntryScan, at: number) => boolean {
  const bytes = ipBytes(network);
  const family = bytes.length === 4 ? 4 : 6;
  const bits = Math.min(prefixLength, bytes.length * 8);
  const whole = bits >> 3;
  const restMask = (0xff00 >> (bits & 7)) & 0xff;
  return (scan, at) => {
    if (scan.family !== family) return false;
    const wire = scan.wire.bytes;
    for (let i = 0; i < whole; i++) if (wire[at + i] !== bytes[i]) return false;
    return restMask === 0 || ((wire[at + whole]! ^ bytes[whole]!) & restMask) === 0;
  };
}

function kernelPart(filter: FlowFilter): ConntrackFilter {
  const family = filter.family ?? familyOfAddresses(filter);
  const protocol = only(filter.protocols);
  const original = tuplePart(filter.original);
  const reply = tuplePart(filter.reply);
  const status = statusPart(filter);
  return present({
    family,
    protocol,
    mark: filter.mark,
    zone: filter.zone,
    status: status.mask === 0 ? undefined : status,
    original,
    reply,
  });
}

/** The kernel compares whole addresses and single ports. */
function tuplePart(direction: DirectionFilter | undefined): TupleFilter | undefined {
  if (direction === undefined) return undefined;
  const host = (cidrs: readonly Cidr[] | undefined): string | undefined => {
    const cidr = only(cidrs);
    return cidr !== undefined && cidr.first === cidr.last ? cidr.network : undefined;
  };
  const port = (ranges: readonly PortRange[] | undefined): number | undefined => {
    const range = only(ranges);
    return range !== undefined && range.first === range.last ? range.first : undefined;
  };
  const source = host(direction.source);
  const destination = host(direction.destination);
  const sourcePort = port(direction.sourcePort);
  const destinationPort = port(direction.destinationPort);
  return present({
    source,
    destination,
    sourcePort,
    destinationPort,
  });
}

/** The one family that all addresses of a direction have, if they have one. */
function familyOfAddresses(filter: FlowFilter): 4 | 6 | undefined {
  for (const direction of [filter.original, filter.reply]) {
    for (const cidrs of [direction?.source, direction?.destination]) {
      const families = new Set(cidrs?.map((cidr) => cidr.family));
      if (families.size === 1) return cidrs![0]!.family;
    }
  }
  return undefined;
}

function only<T>(values: readonly T[] | undefined): T | undefined {
  return values?.length === 1 ? values[0] : undefined;
}
