/** What is written down as different between both backends (docs/architecture.md), and nothing else. */
import { AUTHENTICATION, FLAGS, hasPorts, TCP, type ReadPacket } from "./packets.ts";
import type { Lane, Step } from "./steps.ts";

/** A note about an error: see compare.ts. */
export const UNASKED = "a port that nobody asked for";
const DCCP = 33;
const NODE_INFORMATION = 139;

/** What came out at the ends of a world: as text that is the same in both worlds, and what the outside got as it was. */
export interface Outcome {
  sent: number;
  readonly pod: string[];
  readonly outside: string[];
  readonly raw: ReadPacket[];
  readonly rawPod: ReadPacket[];
  incomplete?: number;
}

/** undefined: it should have been the same. */
export function listedAs(
  lane: Lane,
  at: number,
  nftables: Outcome,
  ebpf: Outcome,
  pods: readonly string[],
  isNodeAsked: boolean,
): string | undefined {
  const step = lane.steps[at]!;
  const { exchange, kind, manner } = step;
  const before = lane.steps.slice(0, at);
  const leaks = ({ raw }: Outcome): boolean => raw.some(({ source }) => pods.includes(source));
  if (leaks(nftables) && !leaks(ebpf)) return "INVALID: nftables lets it leave as it is";
  if (step.what.type === NODE_INFORMATION) return "ICMPv6 node information: dropped";
  if (exchange.protocol === DCCP) return "DCCP: dropped";
  if (kind.endsWith("error") && manner.checksum === "bad")
    return "an error with a wrong checksum: nftables drops it";
  if (manner.fragments !== undefined) {
    if (isLaterFirst(manner.fragments) && isWithin(ebpf, nftables))
      return "a later fragment before its first";
    if (isExtension(lane, exchange.protocol) && nftables[farEnd(step)].length === 0)
      return "an extension header that goes on in the next fragment: the kernel lets the first alone leave";
    if (exchange.protocol === TCP && isTiny(step)) return "a first fragment without TCP's checksum: dropped";
    if ([nftables, ebpf].some(({ raw, rawPod }) => [...raw, ...rawPod].some(isError)))
      return "an error about fragments: nftables quotes them put together";
  }
  if (isReset(step) && nftables.raw.some(isError) && ebpf.raw.length === 0)
    return "an error of the node's about the reset that ended a connection: dropped";
  if (exchange.protocol === TCP && wasReset(before, step) && isNotPassedInBoth(step, nftables, ebpf))
    return "what follows a reset: how long it is known whose it is";
  if (before.some((one) => begunUnfinished(one, step)))
    return "a packet that never came whole began a flow here, and another pod wants the same";
  const toNode = kind === "answer" || kind === "stray";
  if (exchange.protocol === TCP && toNode && nftables.pod.length === 0) return "INVALID: not the pod's";
  if (kind === "pod-error" && [nftables, ebpf].some(tellsUnasked) && isBegunAnew(before, step))
    return "an error about what came before a connection was begun anew: it tells the new port";
  if (kind === "pod-error" && tellsUnasked(ebpf) && bothCalled(before, step))
    return "an error about a peer's call with the ports of a connection that the pod has with it: it tells the new port";
  if (manner.cut !== undefined && nftables[farEnd(step)].length === 0)
    return "INVALID, or dropped by nf_nat: cut short";
  if (manner.cut !== undefined && isExtension(lane, exchange.protocol) && ebpf.outside.length === 0)
    return "an extension header that is cut short: dropped";
  if (kind === "stray" && (isNotPassedInBoth(step, nftables, ebpf) || arePassedToOthers(nftables, ebpf)))
    return "a stray packet finds a port that only one world gave to this pod";
  if (toNode && isNodeAsked && isNotPassedInBoth(step, nftables, ebpf))
    return "the node was asked at this port before, and nobody listened";
  if (kind === "in" && before.some((one) => one.kind === "out" && sameEnds(one, step)))
    return "a peer calls the pod with the ports of a connection that the pod has with it";
  return undefined;
}

/** Whether the connection was reset, and the pod has begun none since; or an error speaks of one that may have been. */
function wasReset(before: readonly Step[], step: Step): boolean {
  const same = before.filter((one) => sameEnds(one, step));
  const reset = same.findLastIndex(isReset);
  if (step.kind.endsWith("error")) return reset >= 0;
  const begun = same.findLastIndex((one) => one.kind === "out" && isCall(one));
  return reset > begun && !isCall(step);
}

function tellsUnasked({ outside }: Outcome): boolean {
  return outside.some((one) => one.includes(UNASKED));
}

/** Whether the pod has called more than once: the last call may be seen outside at another port than the one before. */
function isBegunAnew(before: readonly Step[], step: Step): boolean {
  const calls = before.filter((one) => one.kind === "out" && isCall(one) && sameEnds(one, step));
  return calls.length > 1;
}

/** Whatever else it says: URG, PSH, ECE, CWR. */
function isCall({ what }: Step): boolean {
  return ((what.flags ?? 0) & (FLAGS.fin | FLAGS.syn | FLAGS.rst | FLAGS.ack)) === FLAGS.syn;
}

function isReset({ what }: Step): boolean {
  return ((what.flags ?? 0) & FLAGS.rst) !== 0;
}

function sameEnds({ exchange: a }: Step, { exchange: b }: Step): boolean {
  return a.protocol === b.protocol && a.pod === b.pod && a.port === b.port && a.peer === b.peer;
}

function isError({ bytes, family, protocol, start }: ReadPacket): boolean {
  return family === 4
    ? protocol === 1 && [3, 4, 5, 11, 12].includes(bytes[start]!)
    : protocol === 58 && bytes[start]! < 128;
}

/**
 * Whether a first fragment, to which others never came, took what another pod would be given: with ports the same one, without
 * them the peer (see docs/architecture.md).
 */
function begunUnfinished(
  { exchange, kind, manner }: Step,
  { exchange: { protocol, port, peer } }: Step,
): boolean {
  if (kind !== "out" || manner.fragments === undefined || !isUnfinished(manner.fragments)) return false;
  const isSame = exchange.protocol === protocol && exchange.peer === peer;
  return isSame && (!hasPorts(protocol) || exchange.port === port);
}

function isUnfinished(fragments: readonly number[]): boolean {
  return fragments.includes(0) && new Set(fragments).size <= Math.max(...fragments);
}

/** Whether a peer called the pod with the ports at which the pod calls it. */
function bothCalled(before: readonly Step[], step: Step): boolean {
  const same = before.filter((one) => sameEnds(one, step));
  return same.some(({ kind }) => kind === "in") && same.some(({ kind }) => kind === "out");
}

/** Fragments are multiples of eight bytes. */
function isTiny({ what, manner: { fragments } }: Step): boolean {
  return (20 + what.length) / (Math.max(...fragments!) + 1) <= 16;
}

function isLaterFirst(fragments: readonly number[]): boolean {
  return fragments[0] !== 0;
}

/** Whether one of the worlds may not have known whose a packet is: where both did, what came to the other end is the same. */
function isNotPassedInBoth(step: Step, nftables: Outcome, ebpf: Outcome): boolean {
  return [nftables, ebpf].some((outcome) => outcome[farEnd(step)].length === 0);
}

/** What IPv6 counts among its own headers, though it is all that there is behind them. */
function isExtension({ family }: Lane, protocol: number): boolean {
  return family === 6 && protocol === AUTHENTICATION;
}

/** Where a packet comes out, if it is passed on. */
function farEnd({ kind }: Step): "pod" | "outside" {
  return kind === "out" || kind === "pod-error" ? "outside" : "pod";
}

/** Whether each of the worlds has another pod at the port. */
function arePassedToOthers({ rawPod: one }: Outcome, { rawPod: other }: Outcome): boolean {
  return one[0]?.destination !== other[0]?.destination;
}

/** Whether nothing comes out of the one that does not come out of the other. */
function isWithin(one: Outcome, other: Outcome): boolean {
  return (["pod", "outside"] as const).every((end) =>
    one[end].every((packet) => other[end].includes(packet)),
  );
}
