/** Does a filter stop the packet, or its answer? */
import { forAddress } from "../vouched.ts";
import { endText } from "../../address/ip.ts";
import { command } from "../../text/command.ts";
import { anywhere, finding, type Check, type CheckContext, ruleEvidence } from "../check.ts";
import type { Finding } from "../finding.ts";
import type { Decision } from "../predict/decision.ts";
import { decisionPlace, decisionText, targetText, textOfRule, traceCommand } from "../wording.ts";
import { stopText } from "../stop-text.ts";
import { filterCure, isForProxy, type Filtered } from "./filter-cure.ts";
import { emptyService, type EmptyService } from "./service.ts";
import { UNKNOWN_OWNER } from "../../rules/owner.ts";
import { ownerOfDecision } from "../whose.ts";

export const filter: Check = {
  step: "filter",
  codes: [
    "filter-rule-drops",
    "filter-policy-drops",
    "service-no-endpoints",
    "filter-queue",
    "filter-unknown",
    "branch-fails",
    "invalid-dropped",
    "invalid-leaks",
  ],
  run: (context) => [...drops(context), ...unknown(context), ...invalid(context)],
};

function drops(context: CheckContext): Finding[] {
  const found = new Map<string, Finding>();
  for (const stop of context.stops("filtered")) {
    if (stop.family === "bridge" || stop.stop.kind === "nat-refused") continue;
    const key = `${decisionPlace(stop.stop.by)} ${decisionText(stop.stop.by)}`;
    const made = stop.stop.kind === "queue" ? queued(context, stop) : dropped(context, stop);
    // The same policy often stops both ways: one finding, the first way.
    if (!found.has(key)) found.set(key, made);
  }
  return [...found.values()];
}

function what(context: CheckContext, stop: Filtered): string {
  const { name } = context.pod;
  if (stop.about === "neighbour-discovery") return `neighbour discovery for ${name} (ICMPv6 types 135, 136)`;
  return stop.direction === "out" ? `what ${name} sends` : `the answers to ${name}`;
}

function dropped(context: CheckContext, stop: Filtered): Finding {
  const { by } = stop.stop;
  const service = emptyService(context, by);
  if (service !== undefined) return withoutEndpoints(context, stop, service);
  const owner = ownerOfDecision(by);
  const place = decisionPlace(by);
  const policy = by.rule === undefined;
  const rejected = by.action === undefined ? "drops" : "rejects";
  const counter = counterOf(by);
  const cure = filterCure(context, stop);
  return finding(policy ? "filter-policy-drops" : "filter-rule-drops", {
    text: policy
      ? `the policy of ${by.table.family} ${by.table.name} ${by.base.name} (${owner}) drops ${what(context, stop)}, and no rule there accepts`
      : isForProxy(by)
        ? `${ruleOf(owner)} “${decisionText(by)}” in ${by.table.family} ${by.table.name} ${by.chain.name} gives ${what(context, stop)} to a transparent proxy, and no program listens there`
        : `${ruleOf(owner)} “${decisionText(by)}” in ${by.table.family} ${by.table.name} ${by.chain.name} ${rejected} ${what(context, stop)}`,
    owner,
    evidence: [
      { source: place, value: decisionText(by) },
      {
        source: "hook",
        value: `${by.base.base.hook}, priority ${by.base.base.priority}, in ${stop.place === "pod" ? context.pod.name : "the node"}`,
      },
      ...(counter === undefined ? [] : [{ source: "counter", value: counter }]),
    ],
    consequence: `${stop.direction === "out" ? "the packet ends" : "the answer ends"} at ${stop.hook}; an accept elsewhere cannot help`,
    fix: forAddress(context, context.path.sent?.source, () => cure.fix),
    advice: cure.advice,
  });
}

/** kube-proxy does what it must: the Service has nobody behind it. */
function withoutEndpoints(context: CheckContext, stop: Filtered, service: EmptyService): Finding {
  const { by } = stop.stop;
  const cure = filterCure(context, stop);
  const [namespace, name] = service.name.replace(/:[^:]*$/, "").split("/");
  return finding("service-no-endpoints", {
    text: `Service ${service.name} has no ready endpoints${service.elsewhere ? " on this node" : ""}: kube-proxy's “${service.said}” in ${by.table.family} ${by.table.name} ${by.chain.name} refuses what ${context.pod.name} sends to it`,
    owner: "kube-proxy, for the Service",
    evidence: [...ruleEvidence(by), { source: "kube-proxy says", value: service.said }],
    consequence: "connections to the Service's address are refused at once",
    // An external address is somebody's outside as well: there the packet may go past the Service.
    fix: service.elsewhere ? forAddress(context, context.path.sent?.source, () => cure.fix) : [],
    advice: [
      `see why: kubectl -n ${namespace} get endpointslices -l kubernetes.io/service-name=${name}`,
      ...(service.elsewhere
        ? ["externalTrafficPolicy: Cluster lets every node serve it; or take the address out of externalIPs"]
        : ["start pods that match its selector, and are ready"]),
    ],
  });
}

function ruleOf(owner: string): string {
  if (owner === UNKNOWN_OWNER) return "the rule";
  return owner.endsWith(")") || owner.includes(",") ? `${owner}: the rule` : `${owner}'s rule`;
}

function counterOf({ rule, base }: Decision): string | undefined {
  if (rule === undefined) {
    return base.counter === undefined ? undefined : `${base.counter.packets} packets (policy)`;
  }
  const counter = rule.expressions.find((one) => one.kind === "counter");
  return counter === undefined ? undefined : `${counter.packets} packets`;
}

function queued(context: CheckContext, stop: Filtered): Finding {
  const { by } = stop.stop;
  const owner = ownerOfDecision(by);
  return finding("filter-queue", {
    text: `${decisionPlace(by)} hands ${what(context, stop)} to a program (${by.action ?? "queue"})`,
    owner,
    evidence: ruleEvidence(by),
    consequence: "the program decides; when none listens, packets are dropped",
    fix: [context.fix(stop.place, command`cat /proc/net/netfilter/nfnetlink_queue`)],
    confidence: "possible",
  });
}

/** What the prediction could not know, where that changes what happens. */
function unknown(context: CheckContext): Finding[] {
  const { doubts, certain } = context.predicted;
  if (doubts.length === 0 && certain) return [];
  const branch = failingBranch(context);
  if (branch !== undefined) return [branch];
  return [
    finding("filter-unknown", {
      text: certain
        ? `it depends on ${doubts.map((doubt) => doubt.about).join("; ")}`
        : `cannot tell what happens: it depends on ${doubts.length === 0 ? "more than can be followed" : doubts.map((doubt) => doubt.about).join("; ")}`,
      owner: "the rules named",
      evidence: doubts.map((doubt) => ({
        source: doubt.about,
        value: doubt.likely ? `assumed: ${doubt.assumed ? "matches" : "does not match"}` : "unknown",
      })),
      consequence: certain
        ? "the answer here is for the usual case"
        : "the answer is for one of the cases; a trace of a real packet shows which one holds",
      fix: [anywhere(traceCommand(context.pod.name, context.target))],
      confidence: "possible",
    }),
  ];
}

/** A rule chooses by chance (one of a Service's endpoints), and one of its choices leads nowhere. */
function failingBranch({ predicted, path, pod, target }: CheckContext): Finding | undefined {
  const { doubts, otherwise } = predicted;
  const [stop] = otherwise?.stops ?? [];
  const chance = doubts.find((one) => one.share !== undefined);
  if (chance === undefined || stop === undefined || path.stops.length > 0) return undefined;
  const tuple = otherwise?.steps.at(-1)?.tuple;
  const to =
    tuple === undefined || tuple.destination === target.address
      ? ""
      : `, to ${endText(tuple.destination, tuple.destinationPort)},`;
  return finding("branch-fails", {
    text: `some of ${pod.name}'s connections to ${targetText(target)} fail: those that ${chance.about} sends another way${to} stop: ${stopText(stop)}`,
    owner: "the rules named",
    evidence: [
      { source: chance.about, value: chance.assumed ? "what works: matches" : "what works: does not match" },
      { source: "the other way", value: stopText(stop) },
    ],
    consequence: "a share of the connections fails, the others work",
    advice: ["repair that path, or remove it at its owner (an endpoint that is gone)"],
    confidence: "likely",
  });
}

/** Packets that conntrack calls invalid came while the doctor looked: a rule drops them, or they pass untranslated. */
function invalid(context: CheckContext): Finding[] {
  const readings = context.snapshot.node.conntrack?.readings ?? [];
  const [first] = readings;
  const last = readings.at(-1);
  const growth = first === undefined || last === undefined ? 0 : last.invalid - first.invalid;
  // Also when the readings are no numbers.
  if (!(growth > 0)) return [];
  const by = dropsInvalid(context);
  if (by === undefined) return context.path.translatedBy === undefined ? [] : [leaking(context, growth)];
  const { chain } = by;
  return [
    finding("invalid-dropped", {
      text: `“${decisionText(by)}” in ${chain.name} drops packets that conntrack calls invalid; ${growth} came while the doctor looked`,
      owner: ownerOfDecision(by),
      evidence: [...ruleEvidence(by), { source: "conntrack invalid", value: `+${growth}` }],
      consequence: "connections stall or break off now and then",
      fix: [context.setSysctl("node", "net.netfilter.nf_conntrack_tcp_be_liberal", "1")],
      confidence: "possible",
    }),
  ];
}

function leaking(context: CheckContext, growth: number): Finding {
  return finding("invalid-leaks", {
    text: `conntrack called ${growth} packets invalid while the doctor looked, and no rule drops such packets: they pass untranslated`,
    owner: "the node's rules",
    evidence: [
      { source: "conntrack invalid", value: `+${growth}` },
      { source: "rules with ct state invalid drop", value: "none" },
    ],
    consequence: "the other side sees packets from addresses it does not know, and resets connections",
    fix: [context.setSysctl("node", "net.netfilter.nf_conntrack_tcp_be_liberal", "1")],
    advice: ["or drop them in the forward chain: ct state invalid drop"],
    confidence: "possible",
  });
}

/** The first rule that drops them, and has seen some where it counts. */
export function dropsInvalid(context: CheckContext): Decision | undefined {
  for (const table of context.node.hooks.tables) {
    for (const chain of table.chains) {
      for (const rule of chain.rules) {
        const asksState = rule.expressions.some(
          (one) =>
            (one.kind === "ct" && one.key === "state") ||
            (one.kind === "match" && (one.name === "conntrack" || one.name === "state")),
        );
        const drops = rule.expressions.some(
          (one) => one.kind === "immediate" && "verdict" in one.data && one.data.verdict === "drop",
        );
        if (!asksState || !drops || !/ct state invalid\b|state INVALID\b/.test(textOfRule(rule, table)))
          continue;
        const counter = rule.expressions.find((one) => one.kind === "counter");
        if (counter !== undefined && counter.packets === 0) continue;
        return { table, chain, base: chain as Decision["base"], rule };
      }
    }
  }
  return undefined;
}
