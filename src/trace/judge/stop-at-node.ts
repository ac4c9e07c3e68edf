/** It reached the node and did not leave it: forwarding, rules, routes, the next hop. */
import { sysctlWord } from "../../linux/sysctl-name.ts";
import { command } from "../../text/command.ts";
import { isRedirect } from "../../linux/packet/packet.ts";
import { HOOK_PRIORITY } from "../../linux/netfilter.ts";
import { FORWARDING_SYSCTL, forwardingForbiddenBy } from "../../forwarding/switches.ts";
import {
  type Case,
  type StopReason,
  ruleVerdict,
  errorEvidence,
  growthEvidence,
  linkDownStop,
  noCarrier,
  realDestination,
  withCommand,
  stopFix,
} from "./case.ts";
import {
  tooBig,
  reversePathStop,
  settingLine,
  droppedByOthers,
  silentNeighbour,
  arpName,
} from "./shared-causes.ts";
import { dropReason } from "./reasons.ts";
import type { StepNumber } from "../report.ts";
import { baseOf, droppingRule } from "./rules.ts";
import { present } from "../../present.ts";

/** Forwarding, rules, route: asked in the order in which they explain the others away. */
export function stoppedAtNode(of: Case): StopReason {
  const node = of.evidence.survey.node!;
  const rule = droppingRule(of.outRules.filter(({ event }) => event.where === "node"));
  if (rule !== undefined) {
    const base = baseOf(of.outRules, rule);
    // Chains of postrouting come before or after the source is translated.
    const step = base?.hook !== "postrouting" ? 3 : base.priority < HOOK_PRIORITY.srcnat ? 4 : 6;
    return ruleVerdict(step, rule, `in ${base?.hook ?? "a chain"}`);
  }
  return (
    forwardingOff(of) ??
    tooBig(of) ??
    reversePathStop(of, 3, node.entry, of.evidence.flow.source) ??
    noRouteOnNode(of) ??
    silentNextHop(of) ??
    droppedByOthers(of, 3) ??
    outLinkDown(of) ??
    refusedByError(of, 3) ?? {
      step: 3,
      code: "stopped-elsewhere",
      reason: "it reached the node, and neither left it nor was reported as dropped",
      evidence: growthEvidence(of),
    }
  );
}

function forwardingOff({ evidence }: Case): StopReason | undefined {
  const node = evidence.survey.node!;
  const { family } = evidence.flow;
  const { entry } = node;
  if (entry === undefined) return undefined;
  const conf = `net.ipv${family}.conf.${entry.name}`;
  const value = (name: string): number | undefined => {
    const text = node.sysctls[name];
    return text === undefined ? undefined : Number(text);
  };
  const all = FORWARDING_SYSCTL[family];
  const name = forwardingForbiddenBy(family, entry.name, {
    all: value(all),
    own: value(`${conf}.forwarding`),
    forced: value(`${conf}.force_forwarding`),
  });
  if (name === undefined) return undefined;
  const everywhere = name === all;
  return {
    step: 3,
    code: everywhere ? "forwarding-off" : "forwarding-off-on-interface",
    reason: everywhere
      ? `the node does not forward: ${name} is 0`
      : `the node does not forward what arrives on ${entry.name}: ${name} is 0`,
    todo: everywhere ? "wayout forwarding enable" : command`sysctl -w ${sysctlWord(name)}=1`,
    fix: stopFix("node", command`sysctl -w ${sysctlWord(name)}=1`),
    owner: "the node's settings",
    evidence: [
      { source: "sysctl", lines: [all, `${conf}.forwarding`].flatMap((one) => settingLine(node, one)) },
    ],
  };
}

function noRouteOnNode(of: Case): StopReason | undefined {
  const node = of.evidence.survey.node!;
  if (node.route === undefined || node.route.reachable) return undefined;
  const destination = realDestination(of);
  const down = node.links.filter((link) => !link.up && link.layer !== "loopback").map((link) => link.name);
  const downText = down.length === 0 ? "" : `; down on the node: ${down.join(", ")}`;
  const forbids = node.route.code !== "ENETUNREACH" && node.route.code !== "EHOSTUNREACH";
  return {
    step: 3,
    code: forbids ? "node-route-refused" : "node-no-route",
    reason: forbids
      ? `a route of the node refuses ${destination}: ${node.route.said} (${node.route.code})`
      : `the node has no route to ${destination}${downText}`,
    todo: forbids
      ? "ip rule and ip route show table all (on the node): which of them refuses it?"
      : down.length > 0
        ? command`ip link set dev ${down[0]} up`
        : "ip route (on the node): is there a default route?",
    evidence: [
      {
        source: "route on the node",
        lines: [
          `from ${of.evidence.flow.source} iif ${node.entry?.name} to ${destination}: ${node.route.said} (${node.route.code})`,
        ],
      },
      ...errorEvidence(of),
    ],
  };
}

function silentNextHop(of: Case): StopReason | undefined {
  const { out, nextHop } = of.evidence.survey.node!;
  if (out === undefined) return undefined;
  const evidence = silentNeighbour(of, "node", nextHop, out);
  if (evidence === undefined) return undefined;
  if (!out.up || out.operState === "lowerlayerdown" || out.carrier === false) return outLinkDown(of);
  return {
    step: 6,
    code: "uplink-gateway-unresolved",
    reason: `the next hop ${nextHop} does not answer ${arpName(nextHop!)} on ${out.name}: the packet waits on the node for its MAC address`,
    todo: withCommand(
      "",
      command`ip neigh show dev ${out.name}`,
      `; is ${nextHop} the right gateway, and is it up?`,
    ),
    evidence,
  };
}

function outLinkDown(of: Case): StopReason | undefined {
  const { out } = of.evidence.survey.node!;
  if (out === undefined) return undefined;
  if (!out.up) return linkDownStop(of, 6, out);
  if (out.operState === "lowerlayerdown" || out.carrier === false) return noCarrier(6, out, "on the node");
  return undefined;
}

/** The node's own ICMP error says why. */
function refusedByError(of: Case, step: StepNumber): StopReason | undefined {
  const error = of.correlation.errors.find(({ packet }) => !isRedirect(packet));
  if (error === undefined) return undefined;
  const { icmp, ip } = error.packet;
  const isExpired = icmp!.name.includes("exceeded in transit");
  const todo = isExpired ? dropReason("TTL_EXPIRED").todo : undefined;
  return present({
    step,
    code: isExpired ? "ttl-exceeded" : "refused-on-node",
    reason: `${ip!.source} answers: ${icmp!.name} (ICMP type ${icmp!.type} code ${icmp!.code})`,
    todo,
    evidence: errorEvidence(of),
  });
}
