/** A policy rule sends what the pod sends another way than the node's own packets. */
import { familyOf, hostCidr } from "../../address/ip.ts";
import { command } from "../../text/command.ts";
import { familyFlag, finding, type CheckContext } from "../check.ts";
import type { Evidence, Finding, Fix } from "../finding.ts";
import { Fib, routeText, type RouteResult } from "../predict/fib.ts";
import { predictPath } from "../predict/predict.ts";
import { policyRuleText } from "../predict/rule-selector.ts";
import { RT_TABLE, routingTableText } from "../../linux/route/constants.ts";
import type { RepairPlace } from "../remedy/repair.ts";
import type { Prediction, Stop } from "../predict/path.ts";
import { routeBack } from "./route-fix.ts";
import { decisionCounted, decisionPlace } from "../wording.ts";
import { stopText } from "../stop-text.ts";
import { withChanges } from "../remedy/change.ts";
import { takenAway } from "../remedy/taken-away.ts";
import type { Snapshot } from "../../snapshot/snapshot.ts";
import { KERNEL_RULES, type PolicyRule } from "../../linux/route/rule.ts";
import { ownerOfPolicyRule, productOfPolicyRule } from "../../rules/owner.ts";

interface Captured {
  readonly rule: PolicyRule;
  /** The same, and others that lead to the same table: without the first the packet meets the next. */
  readonly rules: readonly PolicyRule[];
  /** Where the rule leads the packet. */
  readonly way: RouteResult;
  /** Where it would go without the rule. */
  readonly own: RouteResult;
}

/** `ip rule del …` for exactly this rule; empty for the kernel's own. */
export function deletePolicyRule(
  context: CheckContext,
  rule: PolicyRule,
  place: RepairPlace = "node",
): (Fix | undefined)[] {
  if (KERNEL_RULES.has(rule.priority) || (place === "node" && isInUse(context, rule))) return [];
  const flag = rule.family === 6 ? ["-6"] : [];
  const selector = policyRuleText(rule)
    .replace(/^\d+: /, "")
    .split(" ");
  const line = command`ip ${flag} rule del priority ${rule.priority} ${selector}`;
  return [context.fix(place, line, undefined, { kind: "delete-policy-rule", place, rule })];
}

/** Whether the product that makes such rules is here: it would make this one again, and rely on it. */
function isInUse({ node }: CheckContext, rule: PolicyRule): boolean {
  const product = productOfPolicyRule(rule);
  return (
    product !== undefined && node.view.state.links.some((link) => product.link?.test(link.name) === true)
  );
}

export function ownWay(context: CheckContext, rule: PolicyRule): string[] {
  const product = productOfPolicyRule(rule);
  return product !== undefined && isInUse(context, rule)
    ? [`${product.product} is here and makes the rule again: except the pods (or the destination) there`]
    : [];
}

/** Takes the rules away; what a product that is here would make again, the pod is excepted from. */
export function pastRules(context: CheckContext, rules: readonly PolicyRule[]): readonly (Fix | undefined)[] {
  const [first] = rules;
  const source = context.path.routed?.source;
  if (first === undefined || source === undefined || !rules.some((rule) => isInUse(context, rule))) {
    return rules.flatMap((rule) => deletePolicyRule(context, rule));
  }
  const priority = first.priority - 1;
  if (priority < 1) return [];
  // What leads the pod's packets away may lead their answers away as well; where it does not, one is enough.
  return (["from", "to"] as const).map((end) => {
    const rule: PolicyRule = {
      family: familyOf(source),
      priority,
      action: "table",
      table: RT_TABLE.main,
      protocol: "boot",
      flags: [],
      [end === "from" ? "source" : "destination"]: hostCidr(source),
    };
    const line = command`ip ${familyFlag(source)} rule add priority ${priority} ${end} ${source} lookup main`;
    return context.fix("node", line, undefined, { kind: "add-policy-rule", place: "node", rule });
  });
}

/** So many rules in a row are looked at that lead to one table. */
export const MOST_RULES = 8;

export function rulesText(rules: readonly PolicyRule[]): string {
  const texts = rules.map((rule) => `“${policyRuleText(rule)}”`);
  return texts.length === 1 ? `rule ${texts[0]}` : `rules ${texts.join(" and ")}`;
}

function ofAnotherRule(stop: Stop): boolean {
  return (
    stop.direction === "back" &&
    stop.kind === "no-route" &&
    stop.rule?.action === "table" &&
    !KERNEL_RULES.has(stop.rule.priority)
  );
}

/** The packet goes nowhere, and without the rule it would get through. */
export function capturedInVain(context: CheckContext): Finding[] {
  const stop = context.path.stops.find((one) => one.place === "node");
  // Where another rule has the answers refused, that rule is told.
  const captured = stop === undefined || ofAnotherRule(stop) ? undefined : capture(context);
  if (stop === undefined || captured === undefined) return [];
  const { rule, rules } = captured;
  const changed = withChanges(
    context.snapshot,
    context.pod,
    rules.map((one) => ({ kind: "delete-policy-rule", place: "node", rule: one })),
  );
  const { path } = predictPath(changed!.snapshot, changed!.pod, context.target);
  // What stands in the way either way is no fault of the rule's.
  const [gone] = takenAway(context.path.stops, path.stops) ?? [];
  if (path.end === "unknown" || gone === undefined) return [];
  const rest = path.stops.length > 0;
  return [
    finding("rule-captures", {
      text: `${rulesText(rules)} ${rules.length === 1 ? "sends" : "send"} what ${context.pod.name} sends ${wayText(context, captured.way)}, where they stop: ${stopText(gone)}`,
      owner: ownerOfPolicyRule(rule) ?? `the program that made rule ${rule.priority}`,
      evidence: [...evidenceOf(context, captured), { source: "behind it", value: stopText(gone) }],
      consequence: rest
        ? "without the rule only what else is named here would stop the pod's packets"
        : "without the rule the pod's packets would get through",
      fix: pastRules(context, rules),
      advice: ownWay(context, rule),
      confidence: "likely",
    }),
  ];
}

/** A rule that an administrator or a program added has the answers refused: by a route of its table. */
export function answersRefused(
  context: CheckContext,
  { rule, route, destination, error }: Extract<Stop, { readonly kind: "no-route" }>,
): Finding | undefined {
  if (rule?.action !== "table" || KERNEL_RULES.has(rule.priority)) return undefined;
  const text = route === undefined ? error : routeText(route, context.node.view.state.links);
  return finding("rule-captures", {
    text: `rule “${policyRuleText(rule)}” sends the answers to ${context.pod.name} to “${text}”, where they end`,
    owner: ownerOfPolicyRule(rule) ?? `the program that made rule ${rule.priority}`,
    evidence: [
      { source: "ip rule", value: policyRuleText(rule) },
      { source: `ip route show table ${routingTableText(rule.table)}, for ${destination}`, value: text },
    ],
    consequence: "answers reach the node and end there",
    fix: deletePolicyRule(context, rule),
    advice: ownWay(context, rule),
  });
}

/** A rule makes the packet pass by the table that has a way for it (`goto`). */
export function passedBy(context: CheckContext): Finding[] {
  const { snapshot, pod, target, routedFlow: flow } = context;
  const stop = context
    .stops("no-route")
    .find((one) => one.place === "node" && one.direction === "out" && one.rule === undefined);
  if (stop === undefined || flow === undefined) return [];
  for (const rule of snapshot.node.rules) {
    if (rule.action !== "goto" || rule.family !== context.family) continue;
    const own = withoutRules(snapshot, [rule]).predict(flow);
    const changed = withChanges(snapshot, pod, [{ kind: "delete-policy-rule", place: "node", rule }]);
    if (own.kind !== "route" || changed === undefined) continue;
    if (predictPath(changed.snapshot, changed.pod, target).path.stops.length > 0) continue;
    const text = wayText(context, own);
    return [
      finding("rule-captures", {
        text: `rule “${policyRuleText(rule)}” makes what ${pod.name} sends pass by the table that has a route for it (${text}): there is no route to ${stop.destination} behind it`,
        owner: ownerOfPolicyRule(rule) ?? `the program that made rule ${rule.priority}`,
        evidence: [
          { source: "ip rule", value: policyRuleText(rule) },
          {
            source: `ip route get ${flow.destination} from ${flow.source ?? ""} iif ${flow.iif}`,
            value: stop.error,
          },
          { source: "the same without the rule", value: text },
        ],
        consequence: "without the rule the pod's packets would get through",
        fix: pastRules(context, [rule]),
        advice: ownWay(context, rule),
        confidence: "likely",
      }),
    ];
  }
  return [];
}

type Astray = Extract<Stop, { readonly kind: "astray" }>;

/** The answers follow a rule (by the node's own address, as cloud set-ups have them) into a table without the pods. */
export function answersCaptured(context: CheckContext, stop: Astray): Finding | undefined {
  const { rule, route, address, link } = stop;
  if (rule?.action !== "table" || KERNEL_RULES.has(rule.priority)) return undefined;
  const { links } = context.node.view.state;
  const text = route === undefined ? `dev ${link.name}` : routeText(route, links);
  return finding("rule-captures", {
    text: `rule “${policyRuleText(rule)}” sends the answers to ${context.pod.name} out by ${link.name}: table ${routingTableText(rule.table)} has no route to ${address}`,
    owner: ownerOfPolicyRule(rule) ?? `the program that made rule ${rule.priority}`,
    evidence: [
      { source: "ip rule", value: policyRuleText(rule) },
      { source: `ip route show table ${routingTableText(rule.table)}, for ${address}`, value: text },
      { source: `${context.pod.name} is connected to`, value: stop.expected.name },
    ],
    consequence: "answers leave the node instead of going to the pod",
    fix: routeBack(context, address, rule.table),
    advice: [
      `for good: a rule before it that sends what goes to the pods to table main (ip rule add priority ${Math.max(1, rule.priority - 1)} to RANGE lookup main)`,
    ],
  });
}

/** As above, and nothing on this node stops it there: on purpose, most often. */
export function capturedElsewhere(context: CheckContext): Finding[] {
  if (context.path.stops.length > 0) return [];
  const captured = capture(context);
  if (captured === undefined) return [];
  const { rule, rules, way } = captured;
  return [
    finding("rule-captures", {
      text: `${rulesText(rules)} ${rules.length === 1 ? "sends" : "send"} what ${context.pod.name} sends ${wayText(context, way)}, not by the route that applies without the rule`,
      owner: ownerOfPolicyRule(rule) ?? `the program that made rule ${rule.priority}`,
      evidence: evidenceOf(context, captured),
      consequence: "the network there drops the packets, or does not answer",
      fix: pastRules(context, rules),
      advice: ownWay(context, rule),
      confidence: "likely",
    }),
  ];
}

function capture({ path, node, snapshot, routedFlow: flow }: CheckContext): Captured | undefined {
  if (flow === undefined) return undefined;
  const way = node.view.fib.predict(flow);
  const { rule } = way;
  // A rule that refuses by itself is told as that.
  if (rule?.action !== "table" || KERNEL_RULES.has(rule.priority)) return undefined;
  const rules = [rule];
  let own = withoutRules(snapshot, rules).predict(flow);
  while (rules.length < MOST_RULES && own.rule !== undefined && leadsOn(own.rule, rule)) {
    rules.push(own.rule);
    own = withoutRules(snapshot, rules).predict(flow);
  }
  // Back to where it came from is no way out.
  if (own.kind !== "route" || own.type !== "unicast" || own.link.index === path.inLink?.index)
    return undefined;
  if (way.kind === "route" && isSameWay(way, own)) return undefined;
  return { rule, rules, way, own };
}

function leadsOn(next: PolicyRule, first: PolicyRule): boolean {
  return next.action === "table" && next.table === first.table && !KERNEL_RULES.has(next.priority);
}

type Way = Extract<RouteResult, { kind: "route" }>;

/** Both questions are about one flow: any next hop of a multipath route is the same way as another of its hops. */
function isSameWay(way: Way, own: Way): boolean {
  if (way.route === own.route) return true;
  const hops = (one: Way): string[] =>
    (one.hops ?? [{ interface: one.link.index, gateway: one.gateway }]).map(
      (hop) => `${hop.interface} ${hop.gateway ?? ""}`,
    );
  const mine = new Set(hops(own));
  return hops(way).some((hop) => mine.has(hop));
}

/** Pods share the node's rules: its routing without some of them is prepared once. */
const without = new WeakMap<Snapshot, Map<string, Fib>>();

function withoutRules(snapshot: Snapshot, taken: readonly PolicyRule[]): Fib {
  let known = without.get(snapshot);
  if (known === undefined) without.set(snapshot, (known = new Map()));
  const key = taken.map((rule) => snapshot.node.rules.indexOf(rule)).join();
  let fib = known.get(key);
  if (fib === undefined) {
    const rules = snapshot.node.rules.filter((one) => !taken.includes(one));
    known.set(key, (fib = new Fib({ ...snapshot.node, rules, routeAnswers: [] })));
  }
  return fib;
}

function wayText({ node }: CheckContext, way: RouteResult): string {
  if (way.kind === "route") {
    return `out by ${way.link.name}${way.gateway === undefined ? "" : ` to ${way.gateway}`}`;
  }
  if (way.route === undefined) return `nowhere (${way.error})`;
  return `to “${routeText(way.route, node.view.state.links)}”`;
}

/** Which rule set the mark that a policy rule asks for. */
export function markEvidence({ routed }: Prediction, rule: PolicyRule | undefined): Evidence[] {
  const marked = rule?.mark === undefined ? undefined : routed?.markedBy;
  if (marked === undefined) return [];
  return [{ source: `the mark is set by ${decisionPlace(marked)}`, value: decisionCounted(marked) }];
}

function evidenceOf({ path, node }: CheckContext, { rule, rules, way, own }: Captured): Evidence[] {
  const { links } = node.view.state;
  const { routed } = path;
  const text = (result: RouteResult): string =>
    result.route !== undefined
      ? routeText(result.route, links)
      : result.kind === "route"
        ? `dev ${result.link.name}`
        : result.error;
  return [
    ...rules.map((one) => ({ source: "ip rule", value: policyRuleText(one) })),
    ...markEvidence(path, rule),
    {
      source: `ip route get ${routed?.destination ?? ""} from ${routed?.source ?? ""} iif ${path.inLink?.name ?? ""}${rule.mark === undefined ? "" : ` mark ${routed?.mark ?? 0}`}`,
      value: text(way),
    },
    { source: `the same without the ${rules.length === 1 ? "rule" : "rules"}`, value: text(own) },
  ];
}
