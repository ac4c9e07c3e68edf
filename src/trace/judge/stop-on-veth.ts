/** It left the pod and did not reach the node's IP layer: the veth pair, the bridge. */
import { command } from "../../text/command.ts";
import type { Link } from "../../linux/route/link.ts";
import type { KernelDrop } from "../../kernel/bpf/drops.ts";
import {
  type Case,
  type StopReason,
  isHairpin,
  ruleVerdict,
  dropEvidence,
  dropIn,
  dropVerdict,
  linkDownStop,
  stopFix,
  withCommand,
} from "./case.ts";
import { neighbourLines, wrongGatewayMac } from "./shared-causes.ts";
import { droppingRule } from "./rules.ts";

export function stoppedOnVeth(of: Case): StopReason {
  const { hostLink, lower } = of.evidence.survey.node!;
  if (lower !== undefined) {
    const drop = dropIn(of, of.evidence.survey.node!.inode) ?? dropIn(of, of.evidence.survey.pod.inode);
    if (drop !== undefined) return dropVerdict(of, 2, drop, `before ${lower.name}`);
    if (!lower.up) return linkDownStop(of, 2, lower);
    return {
      step: 2,
      code: "stopped-elsewhere",
      reason: `it left the pod and was not seen on ${lower.name}, the parent of the pod's interface`,
    };
  }
  if (hostLink === undefined) {
    return { step: 2, code: "host-link-missing", reason: "the pod's interface has no other end on the node" };
  }
  if (!hostLink.up) return linkDownStop(of, 2, hostLink);
  const drop = dropIn(of, of.evidence.survey.node!.inode) ?? dropIn(of, of.evidence.survey.pod.inode);
  if (drop !== undefined) return dropVerdict(of, 2, drop, `on the veth pair to ${hostLink.name}`);
  return {
    step: 2,
    code: "stopped-elsewhere",
    reason: `it left the pod and did not arrive at ${hostLink.name}`,
  };
}

/** A service that stands for the pod itself: a bridge sends nothing back where it came from unless it is told to. */
export function hairpinOff(of: Case): StopReason | undefined {
  const { bridge, hostLink } = of.evidence.survey.node!;
  if (!isHairpin(of) || bridge === undefined || hostLink?.port?.hairpin !== false) return undefined;
  const rule = droppingRule(of.outRules.filter(({ event }) => event.where === "node"));
  if (rule !== undefined) return undefined;
  const { flow } = of.evidence;
  return {
    step: 6,
    code: "hairpin-off",
    reason: `${flow.destination} is translated to the pod itself, and ${bridge.name} sends no frame back out of the port it came by: hairpin is off at ${hostLink.name}`,
    todo: withCommand(
      "",
      command`ip link set dev ${hostLink.name} type bridge_slave hairpin on`,
      " (hairpinMode of the CNI network)",
    ),
    evidence: [{ source: "link", lines: [`${hostLink.name} port of ${bridge.name}, hairpin off`] }],
  };
}

export function stoppedOnBridge(of: Case): StopReason {
  const node = of.evidence.survey.node!;
  const { bridge, hostLink } = node as { bridge: Link; hostLink: Link };
  const rule = droppingRule(of.outRules);
  if (rule !== undefined) return ruleVerdict(2, rule, `on the bridge ${bridge.name}`);
  if (!bridge.up) return linkDownStop(of, 2, bridge);
  if (hostLink.port !== undefined && hostLink.port.state !== "forwarding") {
    return {
      step: 2,
      code: "bridge-port-blocked",
      reason: `the port ${hostLink.name} of ${bridge.name} is ${hostLink.port.state}, not forwarding`,
      todo: command`ip link set dev ${bridge.name} type bridge stp_state 0`,
    };
  }
  const drop = dropIn(of, node.inode);
  const wrongMac = wrongGatewayMac(of);
  if (wrongMac !== undefined) return wrongMac;
  const refused = refusedByPort(of, drop);
  if (refused !== undefined) return refused;
  if (drop !== undefined) return dropVerdict(of, 2, drop, `on the bridge ${bridge.name}`);
  return {
    step: 2,
    code: "pod-gateway-wrong-mac",
    reason: `its frame came in at ${hostLink.name} and was not addressed to ${bridge.name}`,
    evidence: [{ source: "neighbours in the pod", lines: neighbourLines(of, "pod") }],
    todo: "ip neigh (in the pod): which MAC address does it have for its gateway?",
  };
}

/** What the bridge drops without giving a reason: a port's settings say why. */
export function refusedByPort(of: Case, drop: KernelDrop | undefined): StopReason | undefined {
  const { pod, node } = of.evidence.survey;
  const { bridge, hostLink } = node ?? {};
  if (bridge === undefined || hostLink === undefined) return undefined;
  const evidence = drop === undefined ? [] : [dropEvidence(drop)];
  if (node?.isLockedOut === true) {
    const mac = pod.link?.mac ?? "MAC";
    return {
      step: 2,
      code: "bridge-port-locked",
      reason: `the port ${hostLink.name} of ${bridge.name} is locked, and the pod's MAC address ${mac} is not in the bridge's forwarding database behind it`,
      owner: "the program that locked the port (802.1X, MAC authentication)",
      fix: stopFix("node", command`bridge fdb replace ${mac} dev ${hostLink.name} master static`),
      todo: withCommand("or unlock it: ", command`bridge link set dev ${hostLink.name} locked off`),
      evidence: [...evidence, { source: "link", lines: [`${hostLink.name} port of ${bridge.name}, locked`] }],
    };
  }
  if (drop?.reason !== "NOT_SPECIFIED" || bridge.bridge?.vlanFiltering !== true) return undefined;
  return {
    step: 2,
    code: "bridge-port-blocked",
    reason: `${bridge.name} filters by VLAN, and dropped the pod's frame at ${hostLink.name} without a reason: is the port a member of the pod's VLAN?`,
    owner: "the bridge's VLAN settings",
    todo: `bridge vlan show dev ${hostLink.name}; bridge vlan show dev ${bridge.name}`,
    evidence,
  };
}
