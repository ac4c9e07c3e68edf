/** A policy rule of the pod itself leads into nothing: of a second network, a VPN's sidecar, a network policy agent. */
import { routingTableText } from "../../linux/route/constants.ts";
import { KERNEL_RULES, type PolicyRule } from "../../linux/route/rule.ts";
import { ownerOfPolicyRule } from "../../rules/owner.ts";
import { finding, type CheckContext } from "../check.ts";
import type { Finding } from "../finding.ts";
import { PROTOCOL_NUMBER } from "../predict/packet.ts";
import { predictPath } from "../predict/predict.ts";
import { policyRuleText } from "../predict/rule-selector.ts";
import { preparedNamespace } from "../predict/walk.ts";
import { withChanges, type Changed } from "../remedy/change.ts";
import { stopText } from "../stop-text.ts";
import { deletePolicyRule, MOST_RULES, rulesText } from "./captured.ts";
import { present } from "../../present.ts";

export function capturedInPod(context: CheckContext): Finding[] {
  const { inside, path, target, pod } = context;
  const [stop] = path.stops;
  if (inside === undefined || stop === undefined || stop.direction === "back") return [];
  const rules = blamedInPod(context);
  const [rule] = rules;
  if (rule === undefined) return [];
  return [
    finding("pod-rule-captures", {
      text: `${rulesText(rules)} in ${pod.name} ${rules.length === 1 ? "sends" : "send"} packets to ${target.address} to table ${routingTableText(rule.table)}, where they stop: ${stopText(stop)}`,
      owner: ownerOfPolicyRule(rule) ?? "the program that made the rule in the pod (a second network, a VPN)",
      evidence: [
        ...rules.map((one) => ({ source: `ip rule in ${pod.name}`, value: policyRuleText(one) })),
        { source: "behind it", value: stopText(stop) },
      ],
      consequence: `without the ${rules.length === 1 ? "rule" : "rules"} the pod's packets would get through`,
      fix: rules.flatMap((one) => deletePolicyRule(context, one, "pod")),
      confidence: "likely",
    }),
  ];
}

/** The same for what goes into a tunnel of the pod's own, where no answer came: what happens in there cannot be seen. */
export function intoPodTunnel(context: CheckContext): Finding[] {
  const { inside, path, target, pod } = context;
  const { podLink } = path;
  if (inside === undefined || podLink === undefined || podLink.kind === "veth") return [];
  if (path.end !== "unknown" || path.stops.length > 0) return [];
  const rules = blamedInPod(context);
  const [rule] = rules;
  if (rule === undefined) return [];
  const kind = podLink.kind === undefined ? "" : ` (${podLink.kind})`;
  return [
    finding("pod-rule-captures", {
      text: `${rulesText(rules)} in ${pod.name} ${rules.length === 1 ? "sends" : "send"} packets to ${target.address} to table ${routingTableText(rule.table)} and into ${podLink.name}${kind} there; without it they would leave by the node`,
      owner: ownerOfPolicyRule(rule) ?? "the program that made the rule in the pod (a VPN)",
      evidence: rules.map((one) => ({ source: `ip rule in ${pod.name}`, value: policyRuleText(one) })),
      consequence: `what is behind ${podLink.name} does not answer`,
      fix: rules.flatMap((one) => deletePolicyRule(context, one, "pod")),
      advice: [
        `or repair the tunnel: does its other end answer (of WireGuard, in the pod: wg show)? Without the rule the pod's packets go past it`,
      ],
      confidence: "likely",
    }),
  ];
}

/**
 * The rules of the pod without which the packet gets through: one, or several that lead to one table, so that without the
 * first the packet meets the next. A rule that refuses by itself is told as that.
 */
function blamedInPod({ snapshot, pod, target, path }: CheckContext): readonly PolicyRule[] {
  const taken: PolicyRule[] = [];
  let now: Changed = { snapshot, pod };
  // Where the second question is refused nothing is sent, and yet a source was chosen.
  let source = path.sent?.source ?? path.source?.address.address;
  while (taken.length < MOST_RULES) {
    const { fib } = preparedNamespace(now.pod.state!).view;
    // connect() asks twice: without a source, and with the one that it chose.
    const asked = [{}, present({ source })].map(
      (from) =>
        fib.predict({
          destination: target.address,
          protocol: PROTOCOL_NUMBER[target.protocol],
          uid: target.sender?.uid ?? 0,
          ...from,
        }).rule,
    );
    const rule = asked.find(
      (one) =>
        one?.action === "table" && !KERNEL_RULES.has(one.priority) && one.table === (taken[0] ?? one).table,
    );
    if (rule === undefined) return [];
    taken.push(rule);
    const changed = withChanges(now.snapshot, now.pod, [{ kind: "delete-policy-rule", place: "pod", rule }]);
    if (changed === undefined) return [];
    now = changed;
    const { path: then } = predictPath(now.snapshot, now.pod, target);
    if (then.end !== "unknown" && then.stops.length === 0) return taken;
    source = then.sent?.source ?? then.source?.address.address;
  }
  return [];
}
