/** It ended in the pod: on its way out, or when the answer was back. */
import { command } from "../../text/command.ts";
import {
  type Case,
  type Verdict,
  ruleVerdict,
  dropIn,
  dropVerdict,
  growthEvidence,
  noCarrier,
  linkText,
  linkDown,
  withCommand,
} from "./case.ts";
import { reversePath, silentNeighbour, arpName, wrongPodMac } from "./causes.ts";
import { droppingRule } from "./rules.ts";

export function stoppedInPod(of: Case): Verdict {
  const { pod, node } = of.evidence.survey;
  const { link } = pod;
  const state = of.evidence.exchange?.state;
  if (link === undefined) {
    return { step: 1, code: "pod-no-interface", reason: "the pod has no interface besides loopback" };
  }
  if (!link.up) {
    return {
      step: 1,
      code: "pod-link-down",
      reason: `${link.name} in the pod is down, so no route leads out`,
      todo: withCommand(command`ip link set dev ${link.name} up`, " (in the pod)"),
      evidence: [{ source: "link", lines: [linkText(link)] }],
    };
  }
  if (!pod.route.reachable) return noRouteInPod(of, pod.route.code, pod.route.said);
  if (state?.kind === "failed" && state.code === "EMSGSIZE") {
    return {
      step: 1,
      code: "too-big-for-pod",
      reason: `the packet is larger than ${link.name} in the pod takes (mtu ${link.mtu})`,
    };
  }
  const rule = droppingRule(of.outRules.filter(({ event }) => event.where === "pod"));
  if (rule !== undefined) return ruleVerdict(1, rule, "in the pod itself");
  if (link.operState === "lowerlayerdown" || link.carrier === false) return noCarrier(1, link, "in the pod");
  const neighbour = silentNeighbour(of, "pod", pod.nextHop, link);
  if (neighbour !== undefined) {
    // The node also refuses to answer ARP for a source that fails this test.
    const filtered = node === undefined ? undefined : reversePath(of, 1, node.entry, of.evidence.flow.source);
    if (filtered !== undefined)
      return { ...filtered, evidence: [...(filtered.evidence ?? []), ...neighbour] };
    if (node?.bridge?.up === false) {
      const down = linkDown(1, node.bridge);
      return { ...down, evidence: [...(down.evidence ?? []), ...neighbour] };
    }
    return {
      step: 1,
      code: "gateway-silent",
      reason: `the gateway ${pod.nextHop} does not answer ${arpName(of)}: the packet waits in the pod for its link-layer address`,
      todo: withCommand(
        command`ip addr show dev ${of.evidence.survey.node?.entry?.name ?? "BRIDGE"}`,
        ` (on the node): does it have ${pod.nextHop}?`,
      ),
      evidence: neighbour,
    };
  }
  const drop = dropIn(of, pod.inode);
  if (drop !== undefined) return dropVerdict(1, drop, "in the pod");
  return {
    step: 1,
    code: "never-left",
    reason:
      state?.kind === "failed"
        ? `the kernel refused to send it: ${state.said} (${state.code})`
        : "the socket sent nothing that could be seen",
  };
}

function noRouteInPod(of: Case, code: string, said: string): Verdict {
  const { pod } = of.evidence.survey;
  const { destination, family } = of.evidence.flow;
  const hasAddress = pod.addresses.some(
    (address) =>
      address.family === family && address.interface === pod.link?.index && address.scope === "global",
  );
  if (!hasAddress) {
    return {
      step: 1,
      code: "pod-no-address",
      reason: `${pod.link!.name} in the pod has no IPv${family} address`,
    };
  }
  const evidence = [{ source: "route in the pod", lines: [`to ${destination}: ${said} (${code})`] }];
  if (code === "ENETUNREACH") {
    return {
      step: 1,
      code: "no-route-in-pod",
      reason: `the pod has no route to ${destination}`,
      todo: "ip route add default via GATEWAY (in the pod); a CNI bridge network needs isDefaultGateway or ipam routes",
      evidence,
    };
  }
  return {
    step: 1,
    code: "route-forbids",
    reason: `a route in the pod forbids ${destination}: ${said} (${code})`,
    evidence,
  };
}

export function stoppedInPodOnReturn(of: Case): Verdict {
  const { pod } = of.evidence.survey;
  const rule = droppingRule(of.backRules.filter(({ event }) => event.where === "pod"));
  if (rule !== undefined) return ruleVerdict(9, rule, "the answer, in the pod itself");
  const drop = dropIn(of, pod.inode);
  if (drop !== undefined) return dropVerdict(9, drop, "the answer, in the pod");
  const wrongMac = wrongPodMac(of);
  if (wrongMac !== undefined) return wrongMac;
  return {
    step: 9,
    code: "answer-not-delivered",
    reason: "the answer arrived in the pod and did not reach the socket",
    evidence: growthEvidence(of),
  };
}
