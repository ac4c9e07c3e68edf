/** The pod's question for its gateway's link-layer address (ARP, neighbour discovery) is not answered: why not? Pure. */
import { command } from "../../text/command.ts";
import type { StepEvidence } from "../report.ts";
import { dropEvidence, linkDownStop, withCommand, type Case, type StopReason } from "./case.ts";
import { arpName, reversePathStop, silentNeighbour } from "./shared-causes.ts";
import { dropReason } from "./reasons.ts";
import { refusedByPort } from "./stop-on-veth.ts";

/** undefined when the gateway is known, or was not asked for. */
export function silentGateway(of: Case): StopReason | undefined {
  const { pod, node } = of.evidence.survey;
  if (pod.link === undefined) return undefined;
  const asked = silentNeighbour(of, "pod", pod.nextHop, pod.link);
  if (asked === undefined) return undefined;
  const known =
    // The node also refuses to answer ARP for a source that fails this test.
    (node === undefined ? undefined : reversePathStop(of, 1, node.entry, of.evidence.flow.source)) ??
    (node?.bridge?.up === false ? linkDownStop(of, 1, node.bridge) : undefined) ??
    refusedByPort(of, undefined) ??
    droppedQuestion(of) ??
    unanswered(of);
  return { ...known, step: 1, evidence: [...(known.evidence ?? []), ...asked] };
}

/** ARP is none of IP's: of its drops the kernel tells us nothing, of a neighbour solicitation's it does. */
function droppedQuestion(of: Case): StopReason | undefined {
  const { pod, node } = of.evidence.survey;
  const drop = of.evidence.drops.find(
    ({ packet, namespaceInode }) => packet.icmp?.target === pod.nextHop && namespaceInode === node?.inode,
  );
  if (drop === undefined) return undefined;
  return {
    step: 1,
    code: "pod-gateway-unresolved",
    reason: `the node drops the pod's request for its gateway ${pod.nextHop} (neighbour solicitation): ${dropReason(drop.reason).text} (${drop.reason})`,
    owner: "the node's input rules",
    todo: "nft list ruleset: accept ICMPv6 types 133 to 136 in the input chain",
    evidence: [dropEvidence(drop)],
  };
}

function unanswered(of: Case): StopReason {
  const { pod, node } = of.evidence.survey;
  const gateway = pod.nextHop;
  const entry = node?.entry;
  const owner = node?.addresses.find(({ address }) => address === gateway);
  const arrived = of.correlation.neighbours.find(
    ({ where, way, interfaceIndex, packet }) =>
      where === "node" &&
      way === "in" &&
      interfaceIndex === entry?.index &&
      (packet.arp?.targetIp ?? packet.icmp?.target) === gateway,
  );
  const isGateway = pod.route.reachable && pod.route.route.gateway !== undefined;
  const what = `${isGateway ? "the gateway " : ""}${gateway} does not answer ${arpName(gateway!)}`;
  if (owner === undefined || arrived === undefined || entry === undefined) {
    return {
      step: 1,
      code: "pod-gateway-unresolved",
      reason: `${what}: the packet waits in the pod for its MAC address`,
      todo: withCommand(
        "",
        command`ip addr show dev ${entry?.name ?? "BRIDGE"}`,
        ` (on the node): does it have ${gateway}?`,
      ),
      evidence: queueOf(of),
    };
  }
  const tables = of.evidence.rulesets.node
    .filter(({ family, chains }) => family === "arp" && chains.some(({ base }) => base !== undefined))
    .map(({ name }) => `table arp ${name}`);
  const rules = tables.length === 0 ? "" : `; ${tables.join(", ")} may drop it`;
  return {
    step: 1,
    code: "pod-gateway-unresolved",
    reason: `${what}: the question reaches ${entry.name}, the node has the address and does not answer${rules}`,
    owner: tables.length === 0 ? "the node's settings" : "ARP rules of an unknown owner",
    todo:
      tables.length === 0
        ? `sysctl net.ipv4.conf.all.arp_ignore net.ipv4.conf.all.arp_filter, and those of ${entry.name}; nft list tables bridge`
        : "nft list tables arp; nft list ruleset arp",
    evidence: [{ source: `capture on ${entry.name}`, lines: [arrived.summary] }],
  };
}

/** Queueing disciplines that a kernel gives by itself. */
const USUAL_QUEUES = new Set(["noqueue", "pfifo_fast", "fq_codel", "fq", "mq"]);

/** One that was set by hand may drop the question itself, of which no other instrument tells. */
function queueOf({ evidence }: Case): StepEvidence[] {
  const { link } = evidence.survey.pod;
  if (link?.qdisc === undefined || USUAL_QUEUES.has(link.qdisc)) return [];
  return [{ source: `queueing discipline of ${link.name} in the pod`, lines: [link.qdisc] }];
}
