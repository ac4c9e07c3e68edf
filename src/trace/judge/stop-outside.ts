/** It left the node, and no answer came. */
import { endText, hostCidr } from "../../address/ip.ts";
import { sysctlWord } from "../../linux/sysctl-name.ts";
import { command } from "../../text/command.ts";
import { needsTranslation } from "../../causes/facts.ts";
import { isRedirect, summaryOf, type DecodedPacket } from "../../linux/packet/packet.ts";
import {
  type Case,
  type StopReason,
  isNodeAddress,
  lostInBridge,
  realDestination,
  ruleVerdict,
  stopFix,
  withCommand,
} from "./case.ts";
import { droppedByOthers, tooBig } from "./shared-causes.ts";
import type { PlacedPacket } from "./correlate.ts";
import type { StepEvidence } from "../report.ts";
import { droppingRule } from "./rules.ts";
import { ICMPV6_TYPES } from "../../linux/icmp.ts";

export function stoppedOutside(of: Case): StopReason {
  const leaving = of.correlation.out.find((packet) => packet.place === "uplink" && packet.way === "out")!;
  return (
    tooBig(of) ??
    refusedOutside(of, leaving) ??
    untranslated(of, leaving) ??
    unansweredNeighbour(of, leaving) ??
    unanswered(of, leaving)
  );
}

/** The way out is a bridge, and the packet left by none of its ports: it never left the node. */
export function stoppedInBridge(of: Case): StopReason | undefined {
  const bridge = lostInBridge(of);
  if (bridge === undefined) return undefined;
  const rule = droppingRule(of.outRules.filter(({ event }) => event.where === "node"));
  if (rule !== undefined) return ruleVerdict(6, rule, `on the bridge ${bridge.name}`);
  return (
    droppedByOthers(of, 6) ?? {
      step: 6,
      code: "stopped-elsewhere",
      reason: `it was given to the bridge ${bridge.name} and was seen at none of its ports`,
      todo: command`bridge link show master ${bridge.name}`,
    }
  );
}

/** Into the network that it came from: the host that gets it there knows its source. */
function isInward({ evidence }: Case): boolean {
  const { entry, out } = evidence.survey.node!;
  return entry !== undefined && entry.index === out?.index;
}

function untranslated(of: Case, leaving: PlacedPacket): StopReason | undefined {
  const { evidence } = of;
  const { source, destination } = leaving.packet.ip!;
  if (isInward(of)) return undefined;
  if (source !== evidence.flow.source || !needsTranslation(source, destination)) return undefined;
  return {
    step: 4,
    code: "nat-missing",
    reason: `it left by ${leaving.interface} with the pod's own address ${source}, to which no router outside has a route: no rule translated it`,
    todo: "wayout nat show, then 'wayout nat apply' or a masquerade rule for the pods' network",
    evidence: [{ source: `capture on ${leaving.interface}`, lines: [leaving.summary] }],
  };
}

function unanswered(of: Case, leaving: PlacedPacket): StopReason {
  const { flow, survey } = of.evidence;
  const source = leaving.packet.ip!.source;
  const { peer } = of.evidence;
  const foreign = peer === undefined && source !== flow.source && !isNodeAddress(of, source);
  const waited = of.evidence.exchange?.timeoutMs;
  const within = waited === undefined ? "" : ` within ${waited} ms`;
  return {
    step: 7,
    code: foreign ? "nat-foreign-address" : "no-answer",
    reason: foreign
      ? `it left by ${leaving.interface} with the source ${source}, which is no address of this node, and no answer came${within}`
      : peer === undefined
        ? `it left the node by ${leaving.interface} as ${summaryOf(leaving.packet)}, and no answer came${within}`
        : `it was handed to the pod ${peer} by ${leaving.interface} as ${summaryOf(leaving.packet)}, which did not answer${within}`,
    todo: foreign
      ? `does the network route ${source} to this node? Otherwise give it to ${survey.node?.out?.name ?? leaving.interface}, or masquerade`
      : peer === undefined
        ? "look outside this node: the destination, its firewall, a security group, a provider's filter"
        : `in ${peer}: does a program listen there (ss -ln), do its own rules drop it, does it have a route back to ${source}?`,
    owner: peer === undefined ? "the network outside, or the destination" : `the pod ${peer}`,
    evidence: [
      { source: `capture on ${leaving.interface}`, lines: [leaving.summary] },
      ...nextHopEvidence(of, leaving),
    ],
  };
}

/** The layer below: to whom the frame was addressed, and whether the kernel ever asked. */
function nextHopEvidence(of: Case, leaving: PlacedPacket): StepEvidence[] {
  const hop = of.evidence.survey.node?.nextHop;
  const entry = of.evidence.neighbours.node.find(
    (one) => one.address === hop && one.interface === leaving.interfaceIndex,
  );
  if (entry === undefined) return [];
  const fixed = entry.state === "permanent" ? ": a fixed entry, about which the kernel never asks" : "";
  return [
    {
      source: "the next hop",
      lines: [`${hop} dev ${leaving.interface} is ${entry.mac ?? "unknown"} (${entry.state})${fixed}`],
    },
  ];
}

/** Who sent the error, and what it says. */
function refusedOutside(of: Case, leaving: PlacedPacket): StopReason | undefined {
  const error = of.correlation.errors.find(
    ({ packet }) => !isNodeAddress(of, packet.ip!.source) && !isRedirect(packet),
  );
  if (error === undefined) return undefined;
  const sender = error.packet.ip!.source;
  const { icmp } = error.packet;
  const who = sender === realDestination(of) ? `${sender}, the destination itself,` : `${sender} on the way`;
  const isExpired = icmp!.name.includes("exceeded in transit");
  return {
    step: 7,
    code: isExpired ? "ttl-exceeded" : "refused-outside",
    reason: `it left the node by ${leaving.interface}, and ${who} refuses it: ${icmp!.name} (ICMP type ${icmp!.type} code ${icmp!.code})`,
    owner:
      sender === realDestination(of)
        ? `${sender} or a firewall before it`
        : `the router or firewall ${sender}`,
    todo: refusalTodo(sender, icmp!.name, leaving),
    evidence: [{ source: `capture on ${error.interface}`, lines: [error.summary] }],
  };
}

/** By the words of linux/packet/icmp.ts. */
function refusalTodo(sender: string, name: string, { packet }: PlacedPacket): string {
  if (name.includes("exceeded in transit"))
    return `the routes behind ${sender} form a loop, or the packet was sent with a small TTL (${packet.ip?.ttl} when it left)`;
  if (/prohibited|policy|reject/.test(name))
    return `see the filter of ${sender}: it refuses the source ${packet.ip?.source}, the destination or the port`;
  if (name === "port unreachable")
    return `does a program listen on that port of ${sender}? To TCP, only a firewall's REJECT answers so`;
  return `${sender} has no route to the destination, or the destination does not answer it: look there`;
}

/**
 * The router takes the packet's source for a neighbour on the uplink's own network, asks who has it, and hears nothing:
 * the way back ends there.
 */
function unansweredNeighbour(of: Case, leaving: PlacedPacket): StopReason | undefined {
  const source = leaving.packet.ip!.source;
  const { node } = of.evidence.survey;
  if (node === undefined || isNodeAddress(of, source)) return undefined;
  const ofUplink = of.correlation.neighbours.filter(
    ({ where, interfaceIndex }) => where === "node" && interfaceIndex === leaving.interfaceIndex,
  );
  const asked = ofUplink.filter(
    ({ packet, way }) =>
      way === "in" && (packet.arp?.operation === 1 ? packet.arp.targetIp : askedTarget(packet)) === source,
  );
  const isAnswered = ofUplink.some(
    ({ packet, way }) =>
      way === "out" &&
      (packet.arp?.operation === 2
        ? packet.arp.senderIp === source
        : packet.icmp?.type === ICMPV6_TYPES["nd-neighbor-advert"] && packet.icmp.target === source),
  );
  const [first] = asked;
  if (first === undefined || isAnswered) return undefined;
  const v4 = of.evidence.flow.family === 4;
  const name = leaving.interface;
  const question = {
    source: `capture on ${name}`,
    lines: [`${first.summary} (${asked.length} times, no answer)`],
  };
  if (source !== of.evidence.flow.source) {
    return {
      step: 7,
      code: "nat-foreign-address",
      reason: `it left by ${name} as ${source}, which is no address of this node; the network there asks who has ${source}, and gets no answer`,
      owner: "the rule that translates the source",
      todo: "or masquerade: that takes an address of the interface",
      fix: stopFix("node", command`ip addr add ${hostCidr(source)} dev ${name}`),
      evidence: [question],
    };
  }
  const word = v4 ? "ARP" : "a neighbour solicitation";
  const onNetwork = answeredInVain(of, leaving, source, question, word);
  if (onNetwork !== undefined) return onNetwork;
  return {
    step: 7,
    code: "source-unanswered",
    reason: `it left by ${name} as ${source}; the network there asks who has ${source} (${word}), and gets no answer: no ${v4 ? "proxy_arp" : "proxy_ndp"} on ${name}`,
    owner: "the node's settings, or the router that holds the prefix for its own network",
    todo: `or have the router send the pods' prefix to this node`,
    fix: v4
      ? stopFix("node", command`sysctl -w ${sysctlWord(`net.ipv4.conf.${name}.proxy_arp`)}=1`)
      : [
          ...stopFix("node", command`sysctl -w ${sysctlWord(`net.ipv6.conf.${name}.proxy_ndp`)}=1`),
          ...stopFix("node", command`ip -6 neigh add proxy ${source} dev ${name}`),
        ],
    evidence: [question],
  };
}

/** The pod is on that network itself, behind another port of the bridge: it is the pod who has to answer. */
function answeredInVain(
  of: Case,
  leaving: PlacedPacket,
  source: string,
  question: StepEvidence,
  word: string,
): StopReason | undefined {
  const { hostLink, links } = of.evidence.survey.node!;
  const out = links.find((link) => link.index === leaving.interfaceIndex);
  if (hostLink?.master === undefined || out?.master !== hostLink.master) return undefined;
  const answer = of.correlation.neighbours.find(
    ({ where, way, interfaceIndex, packet }) =>
      where === "node" &&
      way === "in" &&
      interfaceIndex === hostLink.index &&
      (packet.arp?.operation === 2 ? packet.arp.senderIp : packet.icmp?.target) === source,
  );
  const bridge = links.find((link) => link.index === hostLink.master)?.name ?? "the bridge";
  return {
    step: 7,
    code: answer === undefined ? "pod-silent" : "bridge-filter-drops",
    reason: `it left by ${leaving.interface} as ${source}; the network there asks who has ${source} (${word}), and ${
      answer === undefined
        ? `${of.evidence.survey.pod.name} does not answer at ${hostLink.name}`
        : `${of.evidence.survey.pod.name}'s answer comes in at ${hostLink.name} and does not leave ${bridge} again`
    }`,
    owner: answer === undefined ? "the pod's settings, or rules for ARP" : `the rules of ${bridge}`,
    todo:
      answer === undefined
        ? `does the question reach the pod? bridge -d link show dev ${hostLink.name}; in the pod: sysctl net.ipv4.conf.all.arp_ignore`
        : "nft list ruleset bridge; ebtables-legacy -L; arptables -L",
    evidence: [
      question,
      ...(answer === undefined ? [] : [{ source: `capture on ${hostLink.name}`, lines: [answer.summary] }]),
    ],
  };
}

function askedTarget({ icmp }: DecodedPacket): string | undefined {
  return icmp?.type === ICMPV6_TYPES["nd-neighbor-solicit"] ? icmp.target : undefined;
}

/** The connection stands, and the request over it was not answered: small packets pass, perhaps larger ones do not. */
export function requestUnanswered(of: Case): StopReason {
  const { exchange, flow, survey } = of.evidence;
  const big = tooBig(of);
  if (big !== undefined) return big;
  const said = exchange?.state.kind === "failed" ? `: ${exchange.state.said}` : "";
  const where = endText(flow.destination, flow.destinationPort ?? 0);
  const again = command`wayout trace ${survey.pod.name} ${where} --http --timeout 15000`;
  const mtu = survey.pod.link?.mtu ?? 1500;
  return {
    step: 7,
    code: "request-unanswered",
    reason: `the connection was made, and ${flow.destination} did not answer the request within ${exchange?.timeoutMs} ms${said}`,
    todo: withCommand(
      "is the server slow? ",
      again,
      `; are packets of ${mtu} bytes lost? wayout doctor with --to the same port sends some`,
    ),
  };
}
