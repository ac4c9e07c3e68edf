/** A packet that ends on the node or in the pod: why there, and does a socket wait for it? */
import { endText } from "../../address/ip.ts";
import { sysctlWord } from "../../linux/sysctl-name.ts";
import { command } from "../../text/command.ts";
import { finding, said, sysctlEvidence, type CheckContext, ruleEvidence } from "../check.ts";
import type { Evidence, Finding } from "../finding.ts";
import type { Route } from "../../linux/route/route.ts";
import { routeText } from "../predict/fib.ts";
import type { Decision } from "../predict/decision.ts";
import type { LocalEnd, LocalReason } from "../predict/local-end.ts";
import { policyRuleText } from "../predict/rule-selector.ts";
import { targetText, decisionPlace, decisionText } from "../wording.ts";
import { ownerOfDecision, ruleOfOwner } from "../whose.ts";

/** Nobody listens where it ends: the kernel itself refuses it. */
export function endsInVain(context: CheckContext): Finding[] {
  const { localEnd, stops } = context.path;
  if (localEnd === undefined || localEnd.listener !== "none" || stops.length > 0) return [];
  const { place, address, port, why } = localEnd;
  // A broadcast is for everybody, and no socket of one address answers for it.
  const type = why.kind === "route" ? (why.route?.type ?? "local") : "local";
  if (type !== "local" && type !== "anycast") return [];
  if (localEnd.forgottenBy !== undefined) return [forgotten(context, localEnd.forgottenBy)];
  const where = place === "node" ? "this node" : context.pod.name;
  const end = endText(address, port);
  const others = elsewhereAt(context, localEnd);
  return [
    finding(place === "node" ? "ends-on-node" : "ends-in-pod", {
      text: `what ${context.pod.name} sends to ${targetText(context.target)} ends on ${where}: ${reasonText(context, localEnd)}; no program listens at ${end} there${others.length === 0 ? "" : `, only at ${others.join(", ")}`}`,
      owner: ownerOfReason(why),
      evidence: [
        ...evidenceOf(context, localEnd),
        {
          source: `sockets of ${where} that wait for ${context.target.protocol}`,
          value: others.join(", ") || `none at ${end}`,
        },
      ],
      consequence: "the connection is refused here; it does not reach the destination",
      advice: [
        ...(others.length === 0 ? [] : [`let the program at ${others.join(", ")} listen at ${end} as well`]),
        adviceFor(why, end, where),
      ],
      confidence: "likely",
    }),
  ];
}

/** TPROXY and br_netfilter do not go together. */
function forgotten(context: CheckContext, by: Decision): Finding {
  const bridge = context.path.inLink!;
  const name = `net.bridge.bridge-nf-call-${context.family === 4 ? "iptables" : "ip6tables"}`;
  const others = othersNeeding(context);
  const off = context.setSysctl("node", name, "0");
  return finding("ends-on-node", {
    text: `${ruleOfOwner(by)} gives what ${context.pod.name} sends to a transparent proxy while the frame is still at the bridge ${bridge.name} (${name} is ${context.node.view.sysctl(name) ?? "on for the bridge"}), and the IP stack behind it takes no socket along: nobody listens at ${targetText(context.target)} itself`,
    owner: ownerOfDecision(by),
    evidence: [...ruleEvidence(by), sysctlEvidence(name, context.node.view.sysctl(name))],
    consequence: "the kernel finds no socket for it and refuses the connection, although the proxy runs",
    ...(others === undefined ? { fix: [off] } : {}),
    advice: [
      ...(others === undefined
        ? []
        : said(`${others} on this node relies on ${name}; where it does not: `, off?.command)),
      `or let the bridge hand such frames up as routed ones (broute), so that the rule meets them in the IP stack`,
    ],
  });
}

/** Who wants iptables to see what a bridge passes on. */
function othersNeeding({ node }: CheckContext): string | undefined {
  const chains = new Set(node.hooks.tables.flatMap((table) => table.chains.map((chain) => chain.name)));
  if (chains.has("KUBE-SERVICES")) return "kube-proxy";
  return chains.has("DOCKER") ? "Docker" : undefined;
}

/** Programs that wait at the port, and at other addresses only. */
function elsewhereAt({ node, inside, target }: CheckContext, { place, port }: LocalEnd): string[] {
  const state = (place === "node" ? node : inside)?.view.state;
  return (state?.listeners ?? [])
    .filter((one) => one.protocol === target.protocol && one.port === port)
    .map((one) => endText(one.address, one.port));
}

/** A rule changes the destination to the node's loopback, and the kernel lets nothing in for that. */
export function toLoopback(context: CheckContext): Finding[] {
  return context.stops("loopback-destination").map(({ link, destination, by }) => {
    const name = `net.ipv4.conf.${link.name}.route_localnet`;
    const rule = by === undefined ? "a rule" : `“${decisionText(by)}” in ${decisionPlace(by)}`;
    return finding("loopback-destination", {
      text: `${rule} sends what ${context.pod.name} sends to ${targetText(context.target)} to ${destination}, the node's loopback, and route_localnet is 0 on ${link.name}`,
      owner: by === undefined ? "the node's rules" : ownerOfDecision(by),
      evidence: [...ruleEvidence(by), sysctlEvidence(name, 0)],
      consequence: "the kernel drops it silently: no packet for a loopback address may come in",
      advice: [
        `let the program listen on an address of ${link.name}, and the rule redirect to that`,
        ...said(
          `or the following, which opens all that listens on the node's loopback to every host behind ${link.name}: `,
          command`sysctl -w ${sysctlWord(name)}=1`,
        ),
      ],
    });
  });
}

/** Half a sentence: `198.51.100.9 is an address of kube-ipvs0`. */
function reasonText(context: CheckContext, { address, port, why, place }: LocalEnd): string {
  const links = (place === "node" ? context.node : context.inside!).view.state.links;
  switch (why.kind) {
    case "address":
      return `${address} is an address of ${why.link.name}`;
    case "translated":
      return `${ruleOfOwner(why.by)} redirects it to ${endText(address, port)}`;
    case "proxy":
      return `“${decisionText(why.by)}” gives it to a transparent proxy`;
    case "route": {
      const route = why.route === undefined ? "a local route" : `route “${routeText(why.route, links)}”`;
      const rule = why.rule === undefined ? "" : ` (rule “${policyRuleText(why.rule)}”)`;
      const mark = why.markedBy === undefined ? "" : `, by the mark of “${decisionText(why.markedBy)}”`;
      return `${route}${rule} takes it${mark}`;
    }
  }
}

/** The same for what does get an answer there. Undefined for an address that is simply the node's own. */
export function redirectionText(context: CheckContext): string | undefined {
  const { localEnd } = context.path;
  if (localEnd === undefined || localEnd.why.kind === "address") return undefined;
  const listens = typeof localEnd.listener === "object" ? ", where a program listens" : "";
  return `${reasonText(context, localEnd)}${listens}`;
}

function evidenceOf(context: CheckContext, { why, address, place }: LocalEnd): Evidence[] {
  const links = (place === "node" ? context.node : context.inside!).view.state.links;
  switch (why.kind) {
    case "address":
      return [{ source: `addresses of ${why.link.name}`, value: address }];
    case "translated":
    case "proxy":
      return ruleEvidence(why.by);
    case "route":
      return [
        ...ruleEvidence(why.markedBy),
        ...(why.rule === undefined ? [] : [{ source: "ip rule", value: policyRuleText(why.rule) }]),
        ...(why.route === undefined ? [] : [{ source: "ip route", value: routeText(why.route, links) }]),
      ];
  }
}

function ownerOfReason(why: LocalReason): string {
  switch (why.kind) {
    case "address":
      if (why.link.name === "kube-ipvs0") return "kube-proxy (IPVS)";
      return `the program that gave ${why.link.name} the address`;
    case "translated":
    case "proxy":
      return ownerOfDecision(why.by);
    case "route":
      return why.markedBy === undefined ? ownerOfRoute(why.route) : ownerOfDecision(why.markedBy);
  }
}

/** Google's guest agent marks addresses that a load balancer forwards with a protocol number of its own. */
const GUEST_AGENT = "66";

function ownerOfRoute(route: Route | undefined): string {
  if (route?.protocol === GUEST_AGENT) return "Google's guest agent";
  return "the program that made the route";
}

function adviceFor(why: LocalReason, end: string, where: string): string {
  switch (why.kind) {
    case "address":
      return why.link.name === "kube-ipvs0"
        ? "see which Service has this address (externalIPs, load balancer): kube-proxy puts it on every node"
        : `see why ${why.link.name} has it, or start what is to listen at ${end}`;
    case "translated":
    case "proxy":
      return `start the proxy that is to listen at ${end} on ${where}, or except the pod from the rule`;
    case "route":
      if (why.markedBy !== undefined) {
        return `start the proxy that this was made for, or except the pod from the mark`;
      }
      return `see what made the route: an address that a load balancer forwards to this node is the node's own, and a service must listen at ${end} here`;
  }
}
