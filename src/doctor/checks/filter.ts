/** Does a filter stop the packet, or its answer? */
import { endText } from "../../address/ip.ts";
import { command } from "../../text/command.ts";
import { anywhere, finding, ruleEvidence, sysctlEvidence, type Check, type CheckContext } from "../check.ts";
import type { Evidence, Finding } from "../finding.ts";
import { isOwnDrop } from "./nat-dropped.ts";
import { isGuardsWork } from "./nat-programs.ts";
import type { Decision } from "../predict/decision.ts";
import type { Doubt } from "../predict/oracle.ts";
import { chainText } from "../../linux/nftables/text/place.ts";
import {
  decisionChain,
  decisionCounted,
  decisionPlace,
  decisionText,
  quotedDecision,
  traceCommand,
} from "../wording.ts";
import {
  counterEvidence,
  discoveryText,
  exemption,
  filterCure,
  isForProxy,
  isSynProxy,
  opaqueListener,
  type Filtered,
} from "./filter-cure.ts";
import { TCP_LOOSE } from "../predict/statements.ts";
import { onCondition } from "./filter-condition.ts";
import { otherSenders } from "./other-senders.ts";
import { failingBranches } from "./branches.ts";
import { ipsecDrops } from "./ipsec.ts";
import { invalid } from "./invalid.ts";
import { accepts, usedUp, type UsedUp } from "./limit-cure.ts";
import {
  askForEndpoints,
  deciderOf,
  emptyService,
  unknownService,
  withoutServers,
  type EmptyService,
} from "./service.ts";
import { ownerOfDecision, ruleOf } from "../whose.ts";

export const filter: Check = {
  step: "filter",
  suspects: unknownService,
  codes: [
    "filter-rule-drops",
    "filter-policy-drops",
    "service-no-endpoints",
    "ipsec-drops",
    "filter-queue",
    "filter-unknown",
    "filter-by-content",
    "filter-by-time",
    "other-senders-fail",
    "branch-fails",
    "private-destination-outside",
    "invalid-dropped",
    "invalid-leaks",
  ],
  run: (context) => [
    ...drops(context),
    ...ipsecDrops(context),
    ...withoutServers(context),
    ...unknown(context),
    ...otherSenders(context),
    ...invalid(context),
  ],
};

function drops(context: CheckContext): Finding[] {
  const found = new Map<string, Finding>();
  for (const stop of context.stops("filtered")) {
    if (isGuardsWork(context, stop.stop.by) || isOwnDrop(stop.stop.by)) continue;
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
  if (stop.about === "neighbour-discovery") return discoveryText(context, stop);
  return stop.direction === "out" ? `what ${name} sends` : `the answers to ${name}`;
}

function dropped(context: CheckContext, stop: Filtered): Finding {
  const { by } = stop.stop;
  const service = emptyService(context, by);
  if (service !== undefined) return withoutEndpoints(context, stop, service);
  const owner = ownerOfDecision(by);
  const place = decisionPlace(by);
  const policy = by.rule === undefined;
  const limit = usedUp(context, by);
  const cure = filterCure(context, stop);
  return finding(policy ? "filter-policy-drops" : "filter-rule-drops", {
    text: dropText(context, stop, limit === undefined ? "" : usedText(limit, by)),
    owner,
    evidence: [
      { source: place, value: decisionCounted(by) },
      ...leadingEvidence(by),
      {
        source: "hook",
        value: `${by.base.base.hook}, priority ${by.base.base.priority}, in ${stop.place === "pod" ? context.pod.name : "the node"}`,
      },
      ...(isSynProxy(by) ? [sysctlEvidence(TCP_LOOSE, context.node.view.sysctl(TCP_LOOSE))] : []),
      ...markEvidence(context, stop),
      ...counterEvidence(by),
      ...limitEvidence(limit, context),
    ],
    consequence: `${stop.direction === "out" ? "the packet ends" : "the answer ends"} at ${stop.hook}; an accept elsewhere cannot help`,
    fix: cure.fix,
    advice: cure.advice,
  });
}

/** A rule that asks for nothing (`-j DROP` of a chain for that) says by what it was reached. */
function leadingEvidence({ table, base, from }: Decision): Evidence[] {
  if (from === undefined) return [];
  const leading = { table, base, ...from };
  return [{ source: `led there by ${decisionPlace(leading)}`, value: decisionCounted(leading) }];
}

/** @param used what is said of a limit that is used up, where the verdict depends on one */
function dropText(context: CheckContext, stop: Filtered, used: string): string {
  const { by } = stop.stop;
  const owner = ownerOfDecision(by);
  const packets = what(context, stop);
  if (by.rule === undefined) {
    return `the policy of ${chainText(by.table, by.base)} (${owner}) drops ${packets}, and no rule there accepts${used}`;
  }
  const rule = `${ruleOf(owner)} ${quotedDecision(by)}`;
  if (isForProxy(by)) return `${rule} gives ${packets} to a transparent proxy, and ${proxyText(context, by)}`;
  if (isSynProxy(by)) {
    return `${rule} answers ${packets} in the destination's name (a SYN proxy) and never opens the connection: ${TCP_LOOSE} is not 0, so that conntrack takes the pod's next packet for a connection of its own`;
  }
  return `${rule} ${by.action === undefined ? "drops" : "rejects"} ${packets}${used}`;
}

function proxyText(context: CheckContext, by: Decision): string {
  const listener = opaqueListener(context, by);
  return listener === undefined
    ? "no program listens there"
    : `the program that listens at ${endText(listener.address, listener.port)} may not take what is for others (its socket is not transparent)`;
}

/** kube-proxy does what it must: the Service has nobody behind it. */
function withoutEndpoints(context: CheckContext, stop: Filtered, service: EmptyService): Finding {
  const { by } = stop.stop;
  const decider = deciderOf(context, by);
  const refuses = by.action !== undefined;
  return finding("service-no-endpoints", {
    text: `Service ${service.name} has no ready endpoints${service.elsewhere ? " on this node" : ""}: kube-proxy's “${service.said}” in ${decisionChain(decider)} ${refuses ? "refuses" : "drops"} what ${context.pod.name} sends to it`,
    owner: "kube-proxy, for the Service",
    evidence: [
      ...(decider === by ? [] : ruleEvidence(decider)),
      ...ruleEvidence(by),
      { source: "kube-proxy says", value: service.said },
    ],
    consequence: refuses
      ? "connections to the Service's address are refused at once"
      : "what is sent to the Service's address gets no answer",
    // An external address may be an outside address as well: there the packet may go past the Service.
    fix: service.elsewhere ? exemption(context, { ...stop, by }, "from the destination") : [],
    advice: [
      `see why: ${askForEndpoints(service.name)}`,
      ...(service.elsewhere
        ? ["externalTrafficPolicy: Cluster lets every node serve it; or take the address out of externalIPs"]
        : ["start pods that match its selector, and are ready"]),
    ],
  });
}

function usedText({ state, by }: UsedUp, stopping: Decision): string {
  if (by.rule === stopping.rule) return `: ${state}`;
  if (!accepts(by)) return `: “${decisionText(by)}” leads there, and ${state}`;
  return `: “${decisionText(by)}” accepts it before, and ${state}`;
}

/** Who set the mark by which the rule knows the packet. */
function markEvidence({ path }: CheckContext, { stop, direction }: Filtered): Evidence[] {
  const asksMark = stop.by.rule?.expressions.some(
    (one) =>
      (one.kind === "meta" && one.key === "mark" && one.sreg === undefined) ||
      (one.kind === "match" && one.name === "mark"),
  );
  const markedBy = direction === "out" ? path.marks?.at(-1)?.by : undefined;
  if (asksMark !== true || markedBy === undefined) return [];
  return [
    { source: `the mark is set by ${decisionPlace(markedBy)}`, value: decisionCounted(markedBy) },
    ...leadingEvidence(markedBy),
  ];
}

/** How far a limit is used, as it was read. */
function limitEvidence(limit: UsedUp | undefined, { predicted }: CheckContext): Evidence[] {
  return predicted.doubts
    .filter((one) => one.of === "rate" && limit !== undefined && one.at?.rule === limit.by.rule)
    .map(({ about }) => ({ source: "limit", value: about }));
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
  const { doubts: all, certain } = context.predicted;
  if (all.length === 0 && certain) return [];
  const branches = failingBranches(context);
  if (branches.length > 0) return branches;
  const conditional = onCondition(context);
  // What is certain now and only another time, or for another packet, something else is told by itself.
  const doubts = certain ? all.filter((one) => !isTold(context, one)) : all;
  if (doubts.length === 0 && certain) return conditional;
  return [
    ...conditional,
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

/** By a finding of its own, or by what stops the packet. */
function isTold(context: CheckContext, { of, at }: Doubt): boolean {
  if (of === "content" || of === "time") return true;
  return (
    of === "rate" &&
    context.stops("filtered").some(({ stop }) => usedUp(context, stop.by)?.by.rule === at?.rule)
  );
}
