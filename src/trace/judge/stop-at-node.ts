/** It reached the node and did not leave it: forwarding, rules, routes, the next hop. */
import { sysctlWord } from "../../linux/sysctl-name.ts";
import { command } from "../../text/command.ts";
import {
  type Case,
  type Verdict,
  ruleVerdict,
  errorEvidence,
  growthEvidence,
  linkDown,
  noCarrier,
  realDestination,
  withCommand,
} from "./case.ts";
import { tooBig, reversePath, settingLine, droppedByOthers, silentNeighbour, arpName } from "./causes.ts";
import type { StepNumber } from "../report.ts";
import { baseOf, droppingRule } from "./rules.ts";

/** Forwarding, rules, route: asked in the order in which they explain the others away. */
export function stoppedAtNode(of: Case): Verdict {
  const node = of.evidence.survey.node!;
  const rule = droppingRule(of.outRules.filter(({ event }) => event.where === "node"));
  if (rule !== undefined) {
    const base = baseOf(of.outRules, rule);
    // Chains of postrouting come before or after the source is translated.
    const step = base?.hook !== "postrouting" ? 3 : base.priority < PRIORITY_SRCNAT ? 4 : 6;
    return ruleVerdict(step, rule, `in ${base?.hook ?? "a chain"}`);
  }
  return (
    forwardingOff(of) ??
    tooBig(of) ??
    reversePath(of, 3, node.entry, of.evidence.flow.source) ??
    noRouteOnNode(of) ??
    silentNextHop(of) ??
    droppedByOthers(of, 3) ??
    outLinkDown(of) ??
    refusedByError(of, 3) ?? {
      step: 3,
      code: "vanished-at-node",
      reason: "it reached the node, and neither left it nor was reported as dropped",
      evidence: growthEvidence(of),
    }
  );
}

/** NF_IP_PRI_NAT_SRC, where sources are translated. */
const PRIORITY_SRCNAT = 100;

export function forwardingOff({ evidence }: Case): Verdict | undefined {
  const node = evidence.survey.node!;
  const { sysctls, entry } = node;
  const v6 = evidence.flow.family === 6;
  const names = [
    v6 ? "net.ipv6.conf.all.forwarding" : "net.ipv4.ip_forward",
    `net.ipv${v6 ? 6 : 4}.conf.${entry?.name}.forwarding`,
  ];
  // IPv4 decides by the incoming interface's own setting; net.ipv4.ip_forward only presets it. IPv6 needs both.
  const off = (v6 ? names : names.slice(1)).find((name) => sysctls[name] === "0");
  if (off === undefined) return undefined;
  const everywhere = sysctls[names[0]!] === "0";
  const name = everywhere ? names[0]! : off;
  return {
    step: 3,
    code: "forwarding-off",
    reason: `the node does not forward: ${name} is 0`,
    todo: everywhere ? "wayout forwarding enable" : command`sysctl -w ${sysctlWord(name)}=1`,
    evidence: [{ source: "sysctl", lines: names.flatMap((one) => settingLine(node, one)) }],
  };
}

function noRouteOnNode(of: Case): Verdict | undefined {
  const node = of.evidence.survey.node!;
  if (node.route === undefined || node.route.reachable) return undefined;
  const destination = realDestination(of);
  const down = node.links.filter((link) => !link.up && link.layer !== "loopback").map((link) => link.name);
  const downText = down.length === 0 ? "" : `; down on the node: ${down.join(", ")}`;
  const forbids = node.route.code !== "ENETUNREACH" && node.route.code !== "EHOSTUNREACH";
  return {
    step: 3,
    code: forbids ? "route-forbids-on-node" : "no-route-on-node",
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

function silentNextHop(of: Case): Verdict | undefined {
  const { out, nextHop } = of.evidence.survey.node!;
  if (out === undefined) return undefined;
  const evidence = silentNeighbour(of, "node", nextHop, out);
  if (evidence === undefined) return undefined;
  if (!out.up || out.operState === "lowerlayerdown" || out.carrier === false) return outLinkDown(of);
  return {
    step: 6,
    code: "next-hop-silent",
    reason: `the next hop ${nextHop} does not answer ${arpName(of)} on ${out.name}: the packet waits on the node for its link-layer address`,
    todo: withCommand(
      command`ip neigh show dev ${out.name}`,
      `; is ${nextHop} the right gateway, and is it up?`,
    ),
    evidence,
  };
}

function outLinkDown(of: Case): Verdict | undefined {
  const { out } = of.evidence.survey.node!;
  if (out === undefined) return undefined;
  if (!out.up) return linkDown(6, out);
  if (out.operState === "lowerlayerdown" || out.carrier === false) return noCarrier(6, out, "on the node");
  return undefined;
}

function refusedByError(of: Case, step: StepNumber): Verdict | undefined {
  const error = of.correlation.errors[0];
  if (error === undefined) return undefined;
  return {
    step,
    code: "refused",
    reason: `${error.packet.ip!.source} answers: ${error.packet.icmp!.name}`,
    evidence: errorEvidence(of),
  };
}
