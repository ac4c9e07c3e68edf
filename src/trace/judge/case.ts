/** One exchange that was not answered: what there is to judge it by, and the pieces that verdicts are made of. Pure. */
import { nftName } from "../../linux/nftables/spelling.ts";
import { command, type CommandLine } from "../../text/command.ts";
import type { KernelDrop } from "../../kernel/bpf/drops.ts";
import type { Link } from "../../linux/route/link.ts";
import type { Correlation, PlacedPacket } from "./correlate.ts";
import type { TraceEvidence } from "../evidence.ts";
import { isFatalDrop } from "./progress.ts";
import { dropReason, type DropReason } from "./reasons.ts";
import { UNKNOWN_OWNER } from "../../naming/products.ts";
import type { StepEvidence, StepNumber, TraceStop, StopFix } from "../report.ts";
import type { MetRule } from "./rules.ts";
import { present } from "../../present.ts";

/** What diagnosing reads. */
export interface Case {
  readonly evidence: TraceEvidence;
  readonly correlation: Correlation;
  readonly outRules: readonly MetRule[];
  readonly backRules: readonly MetRule[];
}

export type StopReason = Omit<TraceStop, "lastSeen" | "evidence"> & {
  readonly evidence?: readonly StepEvidence[];
};

export function ruleVerdict(step: StepNumber, rule: MetRule, where: string): StopReason {
  const { family, table, chain, text, handle, owner } = rule.report;
  const whose = owner === undefined ? "" : ` (${owner}'s)`;
  const isPolicy = handle === undefined;
  const what = isPolicy ? `the ${text} of` : `rule "${text}" (handle ${handle}) of`;
  return {
    step,
    code: isPolicy
      ? "filter-policy-drops"
      : family === "bridge"
        ? "bridge-filter-drops"
        : "filter-rule-drops",
    reason: `dropped ${where}: ${what} chain ${chain} in table ${family} ${table}${whose}`,
    todo: command`nft -a list chain ${family} ${nftName(table)} ${nftName(chain)}`,
    rule: rule.report,
    owner: owner ?? UNKNOWN_OWNER,
    evidence: [{ source: "nf_tables trace", lines: [`${family} ${table} ${chain}: ${text}`] }],
  };
}

/** A command that mends it, where it can be spelled. */
export function stopFix(place: StopFix["place"], line: CommandLine | undefined): StopFix[] {
  return line === undefined ? [] : [{ place, command: line }];
}

/** What to do: a command, with what there is to say about it; nothing when no command can spell it. */
export function withCommand(before: string, line: CommandLine | undefined, after = ""): string | undefined {
  return line === undefined ? undefined : `${before}${line}${after}`;
}

export function nodeDrops(of: Case): KernelDrop[] {
  return of.evidence.drops.filter(
    (drop) =>
      isFatalDrop(drop, of.evidence.flow) &&
      (drop.namespaceInode === of.evidence.survey.node?.inode || drop.namespaceInode === 0),
  );
}

export function dropIn(of: Case, inode: number): KernelDrop | undefined {
  return of.evidence.drops.find(
    (drop) => isFatalDrop(drop, of.evidence.flow) && drop.namespaceInode === inode,
  );
}

/** @param where said of the place where no device is known: `in the pod` */
export function dropVerdict(of: Case, step: StepNumber, drop: KernelDrop, where: string): StopReason {
  const link = linkOfDrop(of, drop);
  const { text, code, owner, todo } = reasonOf(of, drop, link);
  const said = `${drop.reason}${drop.function === undefined ? "" : ` in ${drop.function}`}`;
  const device = (link === undefined ? undefined : command`${link.name}`) ?? "DEVICE";
  return present({
    step,
    code: code ?? "kernel-drops",
    reason: `the kernel dropped it ${link === undefined ? where : `at ${link.name}${placeOf(of, drop)}`}: ${text} (${said})`,
    owner,
    todo: todo?.replaceAll("DEV", device),
    evidence: [dropEvidence(drop)],
  });
}

/** The device that the packet was at. */
export function linkOfDrop({ evidence }: Case, drop: KernelDrop): Link | undefined {
  const { pod, node } = evidence.survey;
  const side =
    drop.namespaceInode === pod.inode ? pod : drop.namespaceInode === node?.inode ? node : undefined;
  return side?.links.find((link) => link.index === drop.interfaceIndex);
}

function placeOf({ evidence }: Case, drop: KernelDrop): string {
  return drop.namespaceInode === evidence.survey.pod.inode ? " in the pod" : " on the node";
}

function reasonOf({ evidence }: Case, drop: KernelDrop, link: Link | undefined): DropReason {
  const known = dropReason(drop.reason);
  // ip_forward gives this reason for both.
  if (drop.reason === "IP_INHDR" && (drop.packet.ip?.ttl ?? 64) <= 1) {
    return dropReason(
      drop.packet.ip?.source === evidence.flow.destination ? "ANSWER_TTL_EXPIRED" : "TTL_EXPIRED",
    );
  }
  if (known.code !== "qdisc-drops" || link?.qdisc === undefined) return known;
  // The plain reason says no more than the discipline's name.
  const text =
    drop.reason === "QDISC_DROP"
      ? `its queueing discipline ${link.qdisc} dropped it`
      : `${known.text} (queueing discipline ${link.qdisc})`;
  return { ...known, text };
}

export function dropEvidence(drop: KernelDrop): StepEvidence {
  return { source: "kfree_skb", lines: [`${drop.reason}: ${drop.summary}`] };
}

export function errorEvidence(of: Case): StepEvidence[] {
  const error = of.correlation.errors[0];
  return error === undefined ? [] : [{ source: `capture on ${error.interface}`, lines: [error.summary] }];
}

/** Counters that tell of trouble and moved meanwhile: by any traffic of the node, so a hint only. */
export function growthEvidence(of: Case): StepEvidence[] {
  const telling = /NoRoutes|Discards|Errors|Drop|Filter|Fails|Invalid|ReasmFails/;
  const lines = Object.entries(of.evidence.growth.node)
    .filter(([name]) => telling.test(name))
    .map(([name, grown]) => `${name} + ${grown}`);
  return lines.length === 0 ? [] : [{ source: "counters of the node", lines }];
}

/** Whether conntrack recognised the answer as one to this connection. */
export function isReplyMatched({ evidence }: Pick<Case, "evidence">): boolean {
  const entries = [
    ...evidence.flowEvents.map(({ entry }) => entry),
    ...(evidence.entry === undefined ? [] : [evidence.entry]),
  ];
  return entries.some((entry) => entry.flags.includes("seen-reply"));
}

/** A link of the node on the packet's way. */
export function linkDownStop(of: Case, step: StepNumber, link: Link): StopReason {
  const { hostLink, bridge } = of.evidence.survey.node ?? {};
  return {
    step,
    code:
      link.index === hostLink?.index
        ? "host-link-down"
        : link.index === bridge?.index
          ? "bridge-down"
          : "uplink-down",
    reason: `${link.name} on the node is down`,
    todo: command`ip link set dev ${link.name} up`,
    fix: stopFix("node", command`ip link set dev ${link.name} up`),
    evidence: [{ source: "link", lines: [linkText(link)] }],
  };
}

export function noCarrier(step: StepNumber, link: Link, where: "in the pod" | "on the node"): StopReason {
  return {
    step,
    code: where === "in the pod" ? "pod-no-carrier" : "uplink-down",
    reason: `${link.name} ${where} has no carrier: the other end of the link is down`,
    todo: "set the other end up",
    evidence: [{ source: "link", lines: [linkText(link)] }],
  };
}

export function linkText(link: Link): string {
  return `${link.name} ${link.up ? "up" : "down"}, state ${link.operState}, mtu ${link.mtu}`;
}

export function isNodeAddress(of: Case, address: string): boolean {
  return of.evidence.survey.node?.addresses.some((one) => one.address === address) === true;
}

/**
 * Whether the bridge gave it to another port, or the answer came, without the packet having entered the node's IP layer,
 * which alone gives it another end.
 */
export function wasSwitched(of: Case): boolean {
  const { evidence, correlation } = of;
  const { out, back } = correlation;
  const { pod, node } = evidence.survey;
  if (node?.bridge === undefined || realDestination(of) !== evidence.flow.destination) return false;
  if (out.some((packet) => packet.place === "bridge")) return false;
  const isBeside = pod.nextHop === evidence.flow.destination;
  return back.length > 0 || (isBeside && out.some((packet) => isAtPort(of, packet, node.bridge!)));
}

function isAtPort({ evidence }: Case, packet: PlacedPacket, bridge: Link): boolean {
  const link = evidence.survey.node?.links.find((one) => one.index === packet.interfaceIndex);
  return packet.place === "uplink" && packet.way === "out" && link?.master === bridge.index;
}

/** The bridge that the node gave the packet to, where none of its ports was seen to send it. */
export function lostInBridge(of: Case): Link | undefined {
  const { out } = of.correlation;
  const leaving = out.find((packet) => packet.place === "uplink" && packet.way === "out");
  const link = of.evidence.survey.node?.links.find((one) => one.index === leaving?.interfaceIndex);
  if (link?.kind !== "bridge" || out.some((packet) => isAtPort(of, packet, link))) return undefined;
  return link;
}

/** Whom the packet is for once rules had their say: a service's address is replaced before the node routes. */
export function realDestination({ evidence, correlation }: Case): string {
  return correlation.outside?.destination.address ?? evidence.flow.destination;
}

/** Whether the destination turned out to be the pod itself: a service that has it among its servers. */
export function isHairpin(of: Case): boolean {
  return realDestination(of) === of.evidence.flow.source;
}

/** Whether the destination is the node itself. */
export function isLocal({ evidence }: Case): boolean {
  const route = evidence.survey.node?.route;
  return route?.reachable === true && route.route.type === "local";
}

/** Whether it never leaves the pod: by its loopback, to an address of its own or where a rule of the pod redirects it. */
export function staysInPod({ evidence, correlation }: Case): boolean {
  const { out, back } = correlation;
  const loopback = evidence.survey.pod.links.find((link) => link.layer === "loopback");
  return (
    out.length > 0 &&
    [...out, ...back].every(
      ({ where, interfaceIndex }) => where === "pod" && interfaceIndex === loopback?.index,
    )
  );
}
