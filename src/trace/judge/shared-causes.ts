/** Causes that end a packet at more than one place: too big, reverse path filtering, drops, silent neighbours. */
import { familyOf } from "../../address/ip.ts";
import { sysctlWord } from "../../linux/sysctl-name.ts";
import { command } from "../../text/command.ts";
import type { Link } from "../../linux/route/link.ts";
import {
  type Case,
  type StopReason,
  nodeDrops,
  dropVerdict,
  dropEvidence,
  isNodeAddress,
  stopFix,
  withCommand,
} from "./case.ts";
import type { NodeSide } from "../evidence.ts";
import type { StepEvidence, StepNumber } from "../report.ts";

/** The node said so itself, with an ICMP error, when the packet met a smaller MTU. */
export function tooBig(of: Case): StopReason | undefined {
  const error = of.correlation.errors.find(({ packet }) => packet.icmp?.mtu !== undefined);
  if (error === undefined) return undefined;
  const { out } = of.evidence.survey.node ?? {};
  const isOurs = isNodeAddress(of, error.packet.ip!.source);
  const length = of.correlation.out[0]?.packet.ip?.length;
  return {
    step: isOurs ? 3 : 7,
    code: "mtu-too-large",
    reason: isOurs
      ? `the packet has ${length} bytes, ${out?.name ?? "the way out"} takes ${error.packet.icmp!.mtu}, and it may not be cut`
      : `${error.packet.ip!.source} on the way says that the packet is too big: ${error.packet.icmp!.mtu} bytes would pass`,
    todo: `give the pod's interface mtu ${error.packet.icmp!.mtu}, or clamp TCP's segment size (tcp option maxseg size set rt mtu)`,
    evidence: [{ source: `capture on ${error.interface}`, lines: [error.summary] }],
  };
}

/** @param link where packets from `source` come in */
export function reversePathStop(
  of: Case,
  step: StepNumber,
  link: Link | undefined,
  source: string,
): StopReason | undefined {
  const node = of.evidence.survey.node!;
  const drop = nodeDrops(of).find(({ reason }) => reason === "IP_RPFILTER");
  const grown = of.evidence.growth.node["TcpExt.IPReversePathFilter"] ?? 0;
  if (drop === undefined && grown === 0 && !(source === of.evidence.flow.source && failsReversePath(node))) {
    return undefined;
  }
  const names = ["all", link?.name].map((name) => `net.ipv4.conf.${name}.rp_filter`);
  const strict = names.find((name) => node.sysctls[name] === "1") ?? names[1]!;
  return {
    step,
    code: "reverse-path-filter",
    reason: `reverse path filtering (${strict} = ${node.sysctls[strict] ?? "1"}) refuses it at ${link?.name}: the node's route to ${source} leaves by another interface`,
    owner: "the node's settings",
    // Of the two values the higher one counts: loose on the interface is loose, whatever `all` says.
    fix: drop === undefined ? [] : stopFix("node", command`sysctl -w ${sysctlWord(names[1]!)}=2`),
    todo: `or repair the route to ${source}: it is to leave by ${link?.name}`,
    evidence: [
      { source: "sysctl", lines: names.flatMap((name) => settingLine(node, name)) },
      ...(drop === undefined ? [] : [dropEvidence(drop)]),
      ...(grown === 0 ? [] : [{ source: "counters", lines: [`TcpExt.IPReversePathFilter + ${grown}`] }]),
    ],
  };
}

/** Whether the pod's packets must fail the strict test, as the settings and the route back to the pod are. */
function failsReversePath({ sysctls, entry, routeBack }: NodeSide): boolean {
  const values = ["all", entry?.name].map((name) => Number(sysctls[`net.ipv4.conf.${name}.rp_filter`] ?? 0));
  const back = routeBack?.reachable === true ? routeBack.route.interface : undefined;
  return Math.max(...values) === 1 && back !== entry?.index;
}

export function settingLine({ sysctls }: NodeSide, name: string): string[] {
  const value = sysctls[name];
  return value === undefined ? [] : [`${name} = ${value}`];
}

/** iptables-legacy by its counters, everything else by the kernel's own reason. */
export function droppedByOthers(of: Case, step: StepNumber): StopReason | undefined {
  const drop = nodeDrops(of)[0];
  const isFilter = drop === undefined || drop.reason === "NETFILTER_DROP";
  const legacy = of.evidence.legacyGrowth.find(({ verdict }) => verdict === "DROP" || verdict === "REJECT");
  if (isFilter && legacy !== undefined) {
    return {
      step,
      code: legacy.rule.startsWith("policy ") ? "filter-policy-drops" : "filter-rule-drops",
      reason: `iptables-legacy dropped it: ${legacy.table} ${legacy.chain}: ${legacy.rule} (${legacy.packets} packets meanwhile)`,
      todo: command`iptables-legacy -t ${legacy.table} -vnL ${legacy.chain}`,
      rule: {
        family: of.evidence.flow.family === 4 ? "ip" : "ip6",
        table: legacy.table,
        chain: legacy.chain,
        text: legacy.rule,
      },
      evidence: [
        {
          source: "iptables-legacy counters",
          lines: [`${legacy.table} ${legacy.chain} ${legacy.rule}: + ${legacy.packets}`],
        },
        ...(drop === undefined ? [] : [dropEvidence(drop)]),
      ],
    };
  }
  if (drop?.reason === "NEIGH_FAILED" && drop.packet.ip?.destination === of.evidence.flow.source) {
    return { ...dropVerdict(of, 9, drop, "on the node"), code: "pod-neighbour-unresolved" };
  }
  if (drop !== undefined)
    return dropVerdict(of, drop.reason === "NEIGH_FAILED" ? 6 : step, drop, "on the node");
  return undefined;
}

/** Asked for, and not answered: requests in the capture, an entry that is incomplete or failed. */
export function silentNeighbour(
  of: Case,
  where: "pod" | "node",
  address: string | undefined,
  link: Link,
): StepEvidence[] | undefined {
  const entry = of.evidence.neighbours[where].find(
    (neighbour) => neighbour.interface === link.index && neighbour.address === address,
  );
  const isKnown = entry?.mac !== undefined && entry.state !== "failed" && entry.state !== "incomplete";
  const asked = of.correlation.neighbours.filter(
    (packet) =>
      packet.where === where &&
      packet.interfaceIndex === link.index &&
      packet.way === "out" &&
      (packet.packet.arp?.targetIp ?? packet.packet.icmp?.target) === address,
  );
  const failed = entry?.state === "failed" || entry?.state === "incomplete";
  if (isKnown || (!failed && asked.length === 0)) return undefined;
  return [
    {
      source: `neighbours ${where === "pod" ? "in the pod" : "on the node"}`,
      lines: [`${address} dev ${link.name}: ${entry?.state ?? "none"}`],
    },
    ...(asked[0] === undefined
      ? []
      : [
          {
            source: `capture on ${link.name}`,
            lines: [`${asked[0].summary} (${asked.length} times, no answer)`],
          },
        ]),
  ];
}

export function neighbourLines(of: Case, where: "pod" | "node"): string[] {
  return of.evidence.neighbours[where].map(
    (neighbour) => `${neighbour.address} ${neighbour.mac ?? "?"} ${neighbour.state}`,
  );
}

export function arpName(address: string): string {
  return familyOf(address) === 4 ? "ARP" : "neighbour discovery";
}

/** The pod addresses its frames to a MAC address that is not its gateway's: a bridge floods them, and nobody takes them. */
export function wrongGatewayMac(of: Case): StopReason | undefined {
  const { pod, node } = of.evidence.survey;
  const entry = node?.entry;
  const known = of.evidence.neighbours.pod.find(
    (neighbour) => neighbour.address === pod.nextHop && neighbour.interface === pod.link?.index,
  );
  if (entry === undefined || known?.mac === undefined || known.mac === entry.mac) return undefined;
  // A gateway that is another host on the bridge has a link-layer address of its own.
  const isGateway = node?.addresses.some(
    (address) => address.address === pod.nextHop && address.interface === entry.index,
  );
  if (isGateway !== true) return undefined;
  const link = pod.link?.name ?? "eth0";
  return {
    step: 2,
    code: "pod-gateway-wrong-mac",
    reason: `the pod sends packets for its gateway ${pod.nextHop} to ${known.mac}, but ${entry.name}, which has that address, has the MAC address ${entry.mac}`,
    evidence: [{ source: "neighbours in the pod", lines: [`${pod.nextHop} ${known.mac} ${known.state}`] }],
    fix: stopFix("pod", command`ip neigh del ${pod.nextHop} dev ${link}`),
    todo: `who has ${known.mac}? Where ${entry.name}'s own address changes with its ports, give it a fixed one`,
  };
}

/** The same of the node: frames for the pod's address that are not for the pod's interface. */
export function wrongPodMac(of: Case): StopReason | undefined {
  const { pod, node } = of.evidence.survey;
  const { source } = of.evidence.flow;
  const known = of.evidence.neighbours.node.find(
    (neighbour) => neighbour.address === source && neighbour.interface === node?.entry?.index,
  );
  if (known?.mac === undefined || pod.link === undefined || known.mac === pod.link.mac) return undefined;
  return {
    step: 9,
    code: "node-neighbour-wrong-mac",
    reason: `the node sends packets for ${source} to ${known.mac}, but ${pod.link.name} in the pod has the MAC address ${pod.link.mac}`,
    evidence: [{ source: "neighbours on the node", lines: neighbourLines(of, "node") }],
    todo: withCommand("", command`ip neigh del ${source} dev ${node?.entry?.name}`, " (on the node)"),
  };
}

/** The node hands what is for the pod to another interface than the one that the pod is behind. */
export function routeBackElsewhere(of: Case): StopReason | undefined {
  const { entry, hostLink, routeBack, links } = of.evidence.survey.node!;
  const { source } = of.evidence.flow;
  if (entry === undefined || routeBack === undefined) return undefined;
  const todo = withCommand("", command`ip route get ${source}`, " (on the node)");
  const base = { step: 9, code: "network-overlap" } as const;
  if (!routeBack.reachable) {
    return { ...base, reason: `the node has no route back to ${source}: ${routeBack.said}`, todo };
  }
  const back = links.find((link) => link.index === routeBack.route.interface);
  if (back === undefined || back.index === entry.index) return undefined;
  const isUnplugged = hostLink !== undefined && hostLink.index === entry.index && back.kind === "bridge";
  const unplugged = isUnplugged ? `, which is no port of ${back.name}` : "";
  return {
    ...base,
    reason: `the node's route back to ${source} leaves by ${back.name}, and the pod is behind ${entry.name}${unplugged}`,
    todo: isUnplugged ? command`ip link set dev ${entry.name} master ${back.name}` : todo,
  };
}
