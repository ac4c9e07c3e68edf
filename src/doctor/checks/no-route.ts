/** The node has no route to the destination, or one that refuses it: why, and what gave it the route. */
import { IPV6_MIN_MTU } from "../../linux/link-layer.ts";
import { isLinkLocalAddress } from "../../address/special-purpose.ts";
import type { Link } from "../../linux/route/link.ts";
import { sysctlWord } from "../../linux/sysctl-name.ts";
import { command } from "../../text/command.ts";
import { familyFlag, finding, said, sysctlEvidence, type CheckContext } from "../check.ts";
import type { Evidence, Finding } from "../finding.ts";
import { ignoresLinkDown, isDefaultRoute, routeText } from "../predict/fib.ts";
import type { Stop } from "../predict/path.ts";
import { policyRuleText } from "../predict/rule-selector.ts";
import type { NodeView } from "../predict/view.ts";
import { linkText } from "../wording.ts";
import { markEvidence, ownWay, pastRules } from "./captured.ts";
import { ownerOfPolicyRule } from "../../rules/owner.ts";
import { deleteRoute } from "./route-fix.ts";

const OWNER = "the node's routing";

export function noRoute(context: CheckContext): Finding[] {
  return context
    .stops("no-route")
    .filter((stop) => stop.place === "node" && stop.direction === "out")
    .map((stop) => {
      const { view } = context.node;
      const { links } = view.state;
      const flag = familyFlag(stop.destination);
      const ip = ["ip", ...flag].join(" ");
      const from =
        context.path.inLink === undefined
          ? ""
          : ` from ${context.path.sent?.source ?? ""} iif ${context.path.inLink.name}`;
      const asked = { source: `ip route get ${stop.destination}${from}`, value: stop.error };
      if (
        stop.route === undefined &&
        stop.rule === undefined &&
        stop.error !== "ENETUNREACH" &&
        hasWay(context, stop.destination)
      ) {
        return refusedWithoutRoute(context, stop, asked);
      }
      if (stop.route === undefined && stop.rule === undefined) {
        const defaults = view.state.routes.filter(
          (route) => route.family === context.family && isDefaultRoute(route),
        );
        // A default route that is there, and not found, is missed by no second one.
        const likely = defaults.length === 0 ? likelyUplink(context) : undefined;
        const origin = lostOrigin(context);
        return finding("node-no-route", {
          text: `the node has no route to ${stop.destination}${origin.text}`,
          owner: OWNER,
          evidence: [
            asked,
            {
              source: `${ip} route show default`,
              value:
                defaults.length === 0 ? "none" : defaults.map((route) => routeText(route, links)).join("; "),
            },
            ...origin.evidence,
          ],
          consequence: "packets from the pods (and the node's own) end here",
          ...(likely === undefined
            ? {
                advice: [
                  ...origin.advice,
                  `give the node a default route: ${ip} route add default via GATEWAY`,
                ],
              }
            : {
                advice: origin.advice,
                fix: [
                  context.fix(
                    "node",
                    command`ip ${flag} route add default via ${likely.gateway} dev ${likely.link}`,
                  ),
                ],
              }),
        });
      }
      const text = stop.route === undefined ? policyRuleText(stop.rule!) : routeText(stop.route, links);
      return finding("node-route-refused", {
        text: `${stop.route === undefined ? "rule" : "route"} “${text}” of the node refuses ${stop.destination}`,
        owner: (stop.rule === undefined ? undefined : ownerOfPolicyRule(stop.rule)) ?? OWNER,
        evidence: [
          asked,
          { source: stop.route === undefined ? `${ip} rule` : `${ip} route`, value: text },
          ...markEvidence(context.path, stop.rule),
        ],
        consequence: "packets from the pods to this destination end here",
        ...(stop.route === undefined
          ? { fix: pastRules(context, [stop.rule!]), advice: ownWay(context, stop.rule!) }
          : deleteRoute(context, "node", stop.route)),
      });
    });
}

/** The tables have a way, and the kernel itself refuses this packet: for its source, or its link. */
function refusedWithoutRoute(
  context: CheckContext,
  { destination, error }: Extract<Stop, { readonly kind: "no-route" }>,
  asked: Evidence,
): Finding {
  const { inLink, sent } = context.path;
  return finding("node-route-refused", {
    text: `the node's kernel refuses what comes from ${sent?.source ?? context.pod.name} by ${inLink?.name ?? "its link"} for ${destination} (${error}), although its tables have a route`,
    owner: OWNER,
    evidence: [asked],
    consequence: "packets from the pod to this destination end here",
    advice: [
      "sysctl -w net.ipv4.conf.all.log_martians=1 has the kernel log sources that it takes for forged",
    ],
  });
}

function hasWay({ node, routedFlow }: CheckContext, destination: string): boolean {
  return node.view.fib.predict({ ...routedFlow, destination }).kind === "route";
}

interface Origin {
  /** Goes on with the finding's sentence. */
  readonly text: string;
  readonly evidence: readonly Evidence[];
  readonly advice: readonly string[];
}

/** Why a default route may be gone: a link that is down took it along, IPv6 is off, advertisements are not heard. */
function lostOrigin(context: CheckContext): Origin {
  const { view } = context.node;
  const outer = outerLinks(context);
  const down = outer.filter((link) => !link.up);
  const silent = outer.filter(
    (link) => link.up && link.carrier === false && ignoresLinkDown(view.state, context.family, link),
  );
  const narrow = context.family === 6 ? outer.filter((link) => link.mtu < IPV6_MIN_MTU) : [];
  const off = context.family === 6 ? outer.filter((link) => setTo(view, link, "disable_ipv6", 1)) : [];
  const forwards = context.family === 6 && view.sysctl("net.ipv6.conf.all.forwarding") === 1;
  const deaf = outer.filter((link) => forwards && link.up && setTo(view, link, "accept_ra", 1));
  const name = (link: Link, key: string): string => `net.ipv6.conf.${link.name}.${key}`;
  const reasons = [
    ...down.map((link) => `${link.name} is down`),
    ...silent.map(
      (link) => `${link.name} has no carrier, and its routes do not count (ignore_routes_with_linkdown)`,
    ),
    ...narrow.map((link) => `${link.name} has an mtu of ${link.mtu}, and IPv6 needs ${IPV6_MIN_MTU}`),
    ...off.map((link) => `IPv6 is switched off on ${link.name}`),
  ];
  return {
    text: reasons.length === 0 ? "" : `; ${reasons.join(", ")}`,
    evidence: [
      ...[...down, ...silent].map((link) => ({ source: "links of the node", value: linkText(link) })),
      ...off.map((link) => sysctlEvidence(name(link, "disable_ipv6"), 1)),
      ...deaf.map((link) => sysctlEvidence(name(link, "accept_ra"), 1)),
    ],
    advice: [
      ...silent.map(
        (link) => `look at the other end of ${link.name} (switch port, veth peer): it is down or gone`,
      ),
      ...down.flatMap((link) => said("its routes went with it: ", command`ip link set dev ${link.name} up`)),
      ...narrow.flatMap((link) =>
        said(
          "its addresses and routes went with it: ",
          command`ip link set dev ${link.name} mtu ${IPV6_MIN_MTU}`,
        ),
      ),
      ...off.flatMap((link) => said("", command`sysctl -w ${sysctlWord(name(link, "disable_ipv6"))}=0`)),
      ...(off.length > 0 ? [] : deaf).flatMap((link) =>
        said(
          `if the route comes by router advertisement: a node that forwards ignores those on ${link.name} unless `,
          command`sysctl -w ${sysctlWord(name(link, "accept_ra"))}=2`,
        ),
      ),
    ],
  };
}

function setTo(view: NodeView, link: Link, key: string, value: number): boolean {
  return view.conf(6, link.name, key) === value;
}

/** Links of the node that are no bridge, no bridge's port and no pod's. */
function outerLinks({ node, snapshot }: CheckContext): Link[] {
  // Who leaves by the node is its pod; a namespace of this machine may also play what is beyond its way out.
  const podLinks = new Set(
    snapshot.pods.flatMap(({ state }) =>
      state?.routes.some((route) => isDefaultRoute(route)) === true
        ? state.links.flatMap((link) => link.link ?? [])
        : [],
    ),
  );
  return node.view.state.links.filter(
    (link) =>
      link.kind !== "bridge" &&
      link.master === undefined &&
      link.layer !== "loopback" &&
      !podLinks.has(link.index),
  );
}

/** A gateway that the node knows from its neighbour table, on an interface that is no bridge and no pod's. */
function likelyUplink(context: CheckContext): { gateway: string; link: string } | undefined {
  const { view } = context.node;
  const outer = new Set(outerLinks(context).map((link) => link.index));
  for (const neighbour of view.state.neighbours) {
    const link = view.linkAt(neighbour.interface);
    if (link === undefined || neighbour.family !== context.family) continue;
    if (!outer.has(link.index)) continue;
    if (isLinkLocalAddress(neighbour.address) || neighbour.mac === undefined || neighbour.state === "noarp")
      continue;
    return { gateway: neighbour.address, link: link.name };
  }
  return undefined;
}
