/** Do flows that are tracked already stand in the way: with an old decision, or with all source ports? */
import { command } from "../../text/command.ts";
import { endText } from "../../address/ip.ts";
import { needsTranslation } from "../../causes/facts.ts";
import { NAT_PORTS } from "../../flows/flow-statistics.ts";
import type { FlowGroup, PortUse, Snapshot } from "../../snapshot/snapshot.ts";
import { finding, said, type Check, type CheckContext, type Found } from "../check.ts";
import type { Evidence, Finding, Fix } from "../finding.ts";
import type { Decision } from "../predict/decision.ts";
import { predictPath, type PredictedPath } from "../predict/predict.ts";
import type { PortRange } from "../../linux/ip-protocol.ts";
import type { Prediction } from "../predict/path.ts";
import { productOfDecision } from "../whose.ts";
import { decisionCounted, decisionPlace, decisionText } from "../wording.ts";
import { rewritten } from "./rewritten.ts";

/** Above this share of a range the kernel begins to search long, and above FULL it gives up. */
const NEARLY = 0.8;
/**
 * nf_nat_l4proto_unique_tuple tries some 240 ports of a large range: with 99 of 100 taken it fails for one connection
 * in eleven. Small ranges it tries whole.
 */
const FULL = 0.99;

export const trackedFlows: Check = {
  step: "conntrack",
  codes: [
    "flow-address-lost",
    "flow-outdated",
    "conntrack-stale-translation",
    "ports-exhausted",
    "ports-nearly-exhausted",
  ],
  run: (context) => [...own(context), ...stuck(context), ...others(context), ...ports(context)],
};

// ── old decisions ──

/** The pod's flows to the target that keep another decision than a new packet would get. */
function own(context: CheckContext): Finding[] {
  const { path, predicted, snapshot } = context;
  if (path.left === undefined || path.sent === undefined || !predicted.certain) return [];
  if (path.blindSpots.some((spot) => spot.couldTranslate)) return [];
  // Programs give up a TCP connection that makes no progress and begin another.
  const flows = (snapshot.node.conntrack?.flows ?? []).filter(
    (flow) => flow.protocol !== "tcp" && flow.source === path.sent!.source && isToTarget(context, flow),
  );
  const lost = flows.find((flow) => hasLostAddress(context, flow));
  if (lost !== undefined) return [addressLost(context, lost)];
  // Where it goes explains more than as whom.
  const moved = flows.find((flow) => leadsToTheDead(context, flow) || leadsElsewhere(predicted, flow));
  if (moved !== undefined) return [outdated(context, moved, movedText(moved, path, context))];
  const left = path.left.source;
  const untranslated = flows.find(
    (flow) => path.end === "outside" && flow.translatedTo === flow.source && left !== flow.source,
  );
  return untranslated === undefined ? [] : [outdated(context, untranslated, untranslatedText(untranslated))];
}

/** Nobody answers where it goes, and what is chosen today is one other end. */
function leadsElsewhere({ path, branches, otherwise }: PredictedPath, flow: FlowGroup): boolean {
  const { left } = path;
  if (left === undefined || flow.answered || branches.length > 0 || otherwise.length > 0) return false;
  return left.destination !== flow.answeredBy || left.destinationPort !== flow.answeredPort;
}

function movedText(flow: FlowGroup, { left }: Prediction, context: CheckContext): string {
  const old = endText(flow.answeredBy, flow.answeredPort === 0 ? undefined : flow.answeredPort);
  const port = left!.destinationPort === 0 ? undefined : left!.destinationPort;
  const why = leadsToTheDead(context, flow) ? "which no pod has" : "which does not answer";
  return `still leads to ${old}, ${why}; a new one goes to ${endText(left!.destination, port)}`;
}

function isToTarget({ target }: CheckContext, flow: FlowGroup): boolean {
  return (
    flow.protocol === target.protocol &&
    flow.destination === target.address &&
    (target.port === 0 || flow.destinationPort === target.port) &&
    (target.sourcePort === undefined || flow.sourcePort === target.sourcePort)
  );
}

/** Its answers go to an address that is neither the node's nor what the rules would give. */
function hasLostAddress({ node, path }: CheckContext, { source, translatedTo }: FlowGroup): boolean {
  if (translatedTo === source || translatedTo === path.left?.source) return false;
  return path.translatedToOneOf === undefined && !node.view.fib.isLocal(translatedTo);
}

/** The old backend was a pod of this node, and is none any more. */
function leadsToTheDead({ path, node, snapshot }: CheckContext, { answeredBy }: FlowGroup): boolean {
  if (answeredBy === path.left?.destination || path.end !== "node") return false;
  const way = node.view.fib.predict({ destination: answeredBy });
  if (way.kind !== "route" || way.gateway !== undefined || way.link.kind !== "bridge") return false;
  return !snapshot.pods.some(
    (pod) => pod.state?.addresses.some((one) => one.address === answeredBy) === true,
  );
}

function addressLost(context: CheckContext, flow: FlowGroup): Finding {
  const now = context.path.left!.source;
  return finding("flow-address-lost", {
    text: `${context.pod.name}'s ${flow.protocol} flow to ${flowEnd(flow)} is still translated to ${flow.translatedTo}, which the node no longer has`,
    owner: "the flow began before the change; SNAT keeps the address that it had then",
    evidence: [
      flowEvidence(flow),
      { source: "addresses of the node", value: `none is ${flow.translatedTo}` },
      { source: "a new flow would be translated to", value: now },
    ],
    consequence: "its answers are lost, and the kernel keeps the flow for as long as the pod sends",
    fix: [forget(context, flow)],
    confidence: "likely",
  });
}

function untranslatedText(flow: FlowGroup): string {
  return `is not translated: it began before the rule that would do so, and leaves as ${flow.source}`;
}

function outdated(context: CheckContext, flow: FlowGroup, what: string): Finding {
  const by = context.path.translatedBy;
  const rule: Evidence[] =
    by === undefined ? [] : [{ source: `today's rule, ${decisionPlace(by)}`, value: decisionCounted(by) }];
  return finding("flow-outdated", {
    text: `${context.pod.name}'s ${flow.protocol} flow to ${flowEnd(flow)} ${what}`,
    owner: "the flow is older than the rules, or than the pod",
    evidence: [flowEvidence(flow), ...rule],
    consequence: "no rule decides about it again for as long as packets are sent",
    fix: [forget(context, flow)],
    confidence: "likely",
  });
}

function flowEnd({ destination, destinationPort }: FlowGroup): string {
  return endText(destination, destinationPort === 0 ? undefined : destinationPort);
}

function flowEvidence(flow: FlowGroup): Evidence {
  const many = flow.count === 1 ? "" : `, and ${flow.count - 1} more like it`;
  const from = flow.sourcePort === 0 ? flow.source : `${flow.source} port ${flow.sourcePort}`;
  return {
    source: "conntrack",
    value: `${flow.protocol} ${from} → ${flowEnd(flow)} as ${flow.translatedTo}, answered by ${flow.answeredBy}, ${flow.timeoutSeconds} s left${many}`,
  };
}

function forget(context: CheckContext, flow: FlowGroup): Fix | undefined {
  const { protocol, source, destination, destinationPort } = flow;
  const port = destinationPort === 0 ? [] : ["--dport", destinationPort];
  return context.fix(
    "node",
    command`wayout conntrack flush --proto ${protocol} --src ${source} --dst ${destination} ${port}`,
    { kind: "forget-flows", flow: { protocol, source, destination, destinationPort } },
  );
}

/** Flows to other destinations that stay untranslated although the rules of today would translate them. */
function stuck(context: CheckContext): Finding[] {
  const { path, snapshot } = context;
  const source = path.sent?.source;
  if (source === undefined) return [];
  const flows = (snapshot.node.conntrack?.flows ?? []).filter(
    (flow) =>
      flow.source === source &&
      flow.protocol !== "tcp" &&
      !isToTarget(context, flow) &&
      (flow.translatedTo === source ? needsTranslation(source, flow.destination) : !flow.answered),
  );
  for (const flow of flows.slice(0, MOST_ASKED)) {
    const text = outdatedText(context, flow);
    // It is not what the person came with: what was asked about goes its way.
    if (text !== undefined)
      return [{ ...outdated(context, flow, text), stopsTraffic: false, severity: "warning" }];
  }
  return [];
}

/** What a flow to another destination keeps that a new one would not get. */
function outdatedText(context: CheckContext, flow: FlowGroup): string | undefined {
  const predicted = predictedFor(context, flow);
  const isCertain = predicted?.certain === true && predicted.path.stops.length === 0;
  if (isCertain && leadsElsewhere(predicted, flow)) return movedText(flow, predicted.path, context);
  return flow.translatedTo === flow.source && isOutdated(context, flow) ? untranslatedText(flow) : undefined;
}

/** So many of a pod's flows are asked for, each by a prediction. */
const MOST_ASKED = 16;

/** The pod's other flows: what the rules give to each destination is asked of them before it is called lost. */
function others(context: CheckContext): Finding[] {
  const { path, snapshot } = context;
  const flows = (snapshot.node.conntrack?.flows ?? [])
    .filter((flow) => flow.source === path.sent?.source && hasLostAddress(context, flow))
    .filter((flow) => isOutdated(context, flow));
  const [first] = flows;
  if (first === undefined) return [];
  const count = flows.reduce((sum, flow) => sum + flow.count, 0);
  return [
    finding("conntrack-stale-translation", {
      text: `${count} tracked ${count === 1 ? "flow is" : "flows are"} translated to ${first.translatedTo}, which the node does not have`,
      owner: "connections from before a change of address",
      evidence: flows.slice(0, 5).map(flowEvidence),
      consequence: "their answers are lost; UDP flows live for as long as packets are sent",
      fix: [context.fix("node", command`wayout conntrack flush --reply-dst ${first.translatedTo}`)],
      confidence: "likely",
    }),
  ];
}

/** A new flow there would get another address: the old one is no outgoing address that is routed to this node. */
function isOutdated(context: CheckContext, flow: FlowGroup): boolean {
  const predicted = predictedFor(context, flow);
  if (predicted === undefined) return false;
  const { path, certain } = predicted;
  return (
    certain &&
    path.end === "outside" &&
    path.left !== undefined &&
    path.left.source !== flow.translatedTo &&
    !path.blindSpots.some((spot) => spot.couldTranslate)
  );
}

/** What the rules of today give to such a flow. */
function predictedFor({ snapshot, pod }: CheckContext, flow: FlowGroup): PredictedPath | undefined {
  const { protocol, destination, destinationPort } = flow;
  if (protocol !== "tcp" && protocol !== "udp" && protocol !== "icmp" && protocol !== "icmpv6")
    return undefined;
  return predictPath(snapshot, pod, { address: destination, protocol, port: destinationPort });
}

// ── source ports ──

function ports(context: CheckContext): Finding[] {
  return (context.snapshot.node.conntrack?.portUse ?? []).flatMap((use) => {
    const group = groupOf(context, use);
    if (group === undefined) return [];
    const size = group.range.last - group.range.first + 1;
    const share = use.used / size;
    if (share < NEARLY) return [];
    return [portFinding(context, use, group, share >= FULL)];
  });
}

interface PortGroup {
  readonly range: PortRange;
  readonly path: Prediction;
  /** What the doctor was asked about goes there. */
  readonly wanted: boolean;
}

/** The ports from which the kernel chooses for this destination; undefined when it is far from having used them. */
function groupOf(context: CheckContext, use: PortUse): PortGroup | undefined {
  const { path } = context;
  if (isUse(path, use)) return { range: path.allowedPorts ?? NAT_PORTS, path, wanted: true };
  if (
    use.used < FEW_FLOWS ||
    (use.used < NEARLY * (NAT_PORTS.last - NAT_PORTS.first) && !namesPorts(context))
  ) {
    return undefined;
  }
  const there = pathTo(context, use);
  if (there === undefined || !isUse(there, use)) return undefined;
  return { range: there.allowedPorts ?? NAT_PORTS, path: there, wanted: false };
}

/** Fewer flows fill no range that an administrator would give. */
const FEW_FLOWS = 8;

/** Whether a rule may name ports to translate to: without one all ranges are the kernel's. */
function namesPorts({ node }: CheckContext): boolean {
  return node.hooks.tables.some((table) =>
    table.chains.some((chain) =>
      chain.rules.some(({ expressions }) =>
        expressions.some(
          (one) =>
            ((one.kind === "masq" || one.kind === "nat") && one.sregProtoMin !== undefined) ||
            (one.kind === "target" && (one.name === "MASQUERADE" || one.name === "SNAT")),
        ),
      ),
    ),
  );
}

/** The way of any pod of a network to these destinations: which ports a rule allows does not depend on the pod. */
const ways = new WeakMap<Snapshot, Map<string, Prediction>>();

function pathTo({ snapshot, pod, path }: CheckContext, use: PortUse): Prediction | undefined {
  const { protocol, destination, port } = use;
  if (protocol !== "tcp" && protocol !== "udp" && protocol !== "sctp") return undefined;
  let known = ways.get(snapshot);
  if (known === undefined) ways.set(snapshot, (known = new Map()));
  const key = `${path.inLink?.index} ${protocol} ${destination} ${port}`;
  let way = known.get(key);
  if (way === undefined) {
    way = predictPath(snapshot, pod, { address: destination, protocol, port }).path;
    known.set(key, way);
  }
  return way;
}

function isUse({ left, target }: Prediction, use: PortUse): boolean {
  return (
    left !== undefined &&
    target.protocol === use.protocol &&
    left.source === use.outgoing &&
    left.destination === use.destination &&
    left.destinationPort === use.port
  );
}

function portFinding(
  context: CheckContext,
  use: PortUse,
  { range, path, wanted }: PortGroup,
  full: boolean,
): Finding {
  const size = range.last - range.first + 1;
  const by = path.translatedBy;
  const found = finding(full ? "ports-exhausted" : "ports-nearly-exhausted", {
    text: `${use.used} of the ${size} source ports (${range.first}-${range.last}) of ${use.outgoing} are taken toward ${use.destination} port ${use.port} (${use.protocol})`,
    owner: "the pods that connect there",
    evidence: [
      {
        source: "conntrack",
        value: `${use.used} entries whose answers go from ${use.destination} port ${use.port} to ${use.outgoing}`,
      },
      {
        source: by === undefined ? "ports of the kernel's choice" : decisionPlace(by),
        value: `ports ${range.first}-${range.last}${by === undefined ? "" : ` by “${decisionText(by)}”`}`,
      },
    ],
    consequence: full ? "new connections to it are dropped" : "soon new connections to it are dropped",
    ...portsCure(context, use, range, by),
  });
  return wanted ? found : { ...found, stopsTraffic: false, severity: "warning" };
}

/** Connections that are in use are nobody's to cut: what has ended is forgotten, where that is enough, or there are more ports. */
function portsCure(
  context: CheckContext,
  use: PortUse,
  range: PortRange,
  by: Decision | undefined,
): Pick<Found, "fix" | "advice"> {
  const { used, ended = 0 } = use;
  const size = range.last - range.first + 1;
  const isEnough = ended > 0 && (used - ended) / size < FULL;
  const isNarrow = size < NAT_PORTS.last - NAT_PORTS.first + 1;
  const product = by === undefined ? undefined : productOfDecision(by)?.product;
  const list = command`wayout conntrack list --proto ${use.protocol} --reply-src ${use.destination} --reply-sport ${use.port}`;
  const wider = isNarrow && by !== undefined && product === undefined ? widened(context, by) : undefined;
  return {
    fix: [isEnough ? forgetEnded(context, use) : wider],
    advice: [
      `${used - ended} of them are in use: let the pods keep connections open and use them again`,
      ...(isNarrow && product !== undefined ? [`give ${product} a wider range of ports`] : []),
      `or translate to several addresses of the node, each of which has its own ports (wayout's policy: snat: FIRST-LAST)`,
      ...said("whose they are: ", context.fix("node", list)?.command),
    ],
  };
}

/** The same rule with all ports that the kernel takes by itself. */
function widened(context: CheckContext, by: Decision): Fix | undefined {
  const all = `${NAT_PORTS.first}-${NAT_PORTS.last}`;
  const line = rewritten(by, (text) =>
    text.replace(
      /(?<=(?:masquerade|[sd]nat(?: ip6?)?) to \S*:|--to-ports |--to-source \S*:)\d+(?:-\d+)?/,
      all,
    ),
  );
  return context.fix("node", line);
}

function forgetEnded(context: CheckContext, use: PortUse): Fix | undefined {
  return context.fix(
    "node",
    command`wayout conntrack flush --proto ${use.protocol} --state TIME_WAIT,CLOSE,CLOSE_WAIT,LAST_ACK --reply-src ${use.destination} --reply-sport ${use.port} --reply-dst ${use.outgoing}`,
  );
}
