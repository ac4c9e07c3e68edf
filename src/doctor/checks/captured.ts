/** A policy rule sends what the pod sends another way than the node's own packets. */
import { command } from "../../text/command.ts";
import { finding, type CheckContext } from "../check.ts";
import type { Evidence, Finding, Fix } from "../finding.ts";
import { routeText, type RouteResult } from "../predict/fib.ts";
import { PROTOCOL_NUMBER } from "../predict/packet.ts";
import { predictPath } from "../predict/predict.ts";
import { ruleText } from "../predict/rule-selector.ts";
import { stopText } from "../stop-text.ts";
import { withChanges } from "../remedy/change.ts";
import type { Rule } from "../../linux/route/rule.ts";
import { ownerOfPolicyRule } from "../../rules/owner.ts";

interface Captured {
  readonly rule: Rule;
  /** Where the rule leads the packet. */
  readonly way: RouteResult;
  /** Where the node's own packets go. */
  readonly own: RouteResult;
}

/** The rules that every kernel begins with are nobody's to delete. */
const KERNEL_RULES: ReadonlySet<number> = new Set([0, 32766, 32767]);

/** `ip rule del …` for exactly this rule; empty for the kernel's own. */
export function deletePolicyRule(context: CheckContext, rule: Rule): (Fix | undefined)[] {
  if (KERNEL_RULES.has(rule.priority)) return [];
  const flag = rule.family === 6 ? ["-6"] : [];
  const selector = ruleText(rule)
    .replace(/^\d+: /, "")
    .split(" ");
  const line = command`ip ${flag} rule del priority ${rule.priority} ${selector}`;
  return [context.fix("node", line, undefined, { kind: "delete-policy-rule", place: "node", rule })];
}

/** The packet goes nowhere, and without the rule it would get through. */
export function capturedInVain(context: CheckContext): Finding[] {
  const stop = context.path.stops.find((one) => one.place === "node");
  const captured = stop === undefined ? undefined : capture(context);
  if (stop === undefined || captured === undefined) return [];
  const { rule } = captured;
  const without = withChanges(context.snapshot, context.pod, [
    { kind: "delete-policy-rule", place: "node", rule },
  ]);
  const { path } = predictPath(without!.snapshot, without!.pod, context.target);
  // What stands in the way either way is no fault of the rule's.
  if (path.end === "unknown" || path.stops.length > 0) return [];
  return [
    finding("rule-captures", {
      text: `rule “${ruleText(rule)}” sends what ${context.pod.name} sends ${wayText(context, captured.way)}, where it gets no further: ${stopText(stop)}`,
      owner: ownerOfPolicyRule(rule) ?? `the author of rule ${rule.priority}`,
      evidence: [...evidenceOf(context, captured), { source: "behind it", value: stopText(stop) }],
      consequence: "without the rule the pod's packets would leave as the node's own do",
      fix: deletePolicyRule(context, rule),
      confidence: "likely",
    }),
  ];
}

/** As above, and nothing on this node stops it there: on purpose, most often. */
export function capturedElsewhere(context: CheckContext): Finding[] {
  if (context.path.stops.length > 0) return [];
  const captured = capture(context);
  if (captured === undefined) return [];
  const { rule, way } = captured;
  return [
    finding("rule-captures", {
      text: `rule “${ruleText(rule)}” sends what ${context.pod.name} sends ${wayText(context, way)}, not the way of the node's own packets`,
      owner: ownerOfPolicyRule(rule) ?? `the author of rule ${rule.priority}`,
      evidence: evidenceOf(context, captured),
      consequence: "what is there does not let it through, or does not answer",
      fix: deletePolicyRule(context, rule),
      confidence: "likely",
    }),
  ];
}

function capture({ path, node }: CheckContext): Captured | undefined {
  const { sent, inLink } = path;
  if (sent === undefined || inLink === undefined) return undefined;
  const { fib } = node.view;
  const destination = path.left?.destination ?? path.target.address;
  const way = fib.predict({
    ...sent,
    protocol: PROTOCOL_NUMBER[sent.protocol],
    destination,
    iif: inLink.name,
  });
  const { rule } = way;
  // A rule that refuses by itself is told as that.
  if (rule?.action !== "table" || KERNEL_RULES.has(rule.priority)) return undefined;
  const own = fib.predict({ destination });
  // Both questions are about one flow: of a multipath route any next hop is the same way.
  if (own.kind !== "route" || own.type !== "unicast") return undefined;
  if (way.kind === "route" && (way.route === own.route || way.link.index === own.link.index))
    return undefined;
  return { rule, way, own };
}

function wayText({ node }: CheckContext, way: RouteResult): string {
  if (way.kind === "route") return `out by ${way.link.name}`;
  if (way.route === undefined) return `nowhere (${way.error})`;
  return `to “${routeText(way.route, node.view.state.links)}”`;
}

function evidenceOf({ path, node }: CheckContext, { rule, way, own }: Captured): Evidence[] {
  const { links } = node.view.state;
  const destination = path.left?.destination ?? path.target.address;
  const text = (result: RouteResult): string =>
    result.route !== undefined
      ? routeText(result.route, links)
      : result.kind === "route"
        ? `dev ${result.link.name}`
        : result.error;
  return [
    { source: "ip rule", value: ruleText(rule) },
    {
      source: `ip route get ${destination} from ${path.sent?.source ?? ""} iif ${path.inLink?.name ?? ""}`,
      value: text(way),
    },
    { source: `ip route get ${destination}`, value: text(own) },
  ];
}
