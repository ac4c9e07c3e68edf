/** Does the node know a way out, and does it use it for the pod? */
import type { Route } from "../../linux/route/route.ts";
import { command } from "../../text/command.ts";
import { isLinkLocalAddress } from "../../address/special-purpose.ts";
import { RT_TABLE, routingTableText } from "../../linux/route/constants.ts";
import type { Link } from "../../linux/route/link.ts";
import { sysctlWord } from "../../linux/sysctl-name.ts";
import type { NodeView } from "../predict/view.ts";
import { familyFlag, finding, said, sysctlEvidence, type Check, type CheckContext } from "../check.ts";
import type { Evidence, Finding, Fix } from "../finding.ts";
import { hopsOf, isDefaultRoute, routeText } from "../predict/fib.ts";
import { policyRuleText } from "../predict/rule-selector.ts";
import {
  answersCaptured,
  answersRefused,
  capturedElsewhere,
  capturedInVain,
  deletePolicyRule,
} from "./captured.ts";
import { endsInVain, toLoopback } from "./local-end.ts";
import { failingLegs, proxyWithoutRoute, sourceUnanswered, ttlExceeded } from "./unanswered.ts";
import { deleteRoute, hostRoute, routeBack, routeBackPast } from "./route-fix.ts";
import { enslavedUplink, otherLinksAddress, pinnedGateway, unroutedNetwork } from "./uplink.ts";
import { forAddress } from "../vouched.ts";
import { LEAST_IPV6_MTU } from "./pod-address.ts";
import { linkText } from "../wording.ts";

const OWNER = "the node's routing";

export const nodeRoute: Check = {
  step: "node-route",
  codes: [
    "node-no-route",
    "node-route-refused",
    "node-rules-missing",
    "rule-captures",
    "ends-on-node",
    "loopback-destination",
    "ends-in-pod",
    "leg-fails",
    "source-unanswered",
    "ttl-exceeded",
    "proxy-without-route",
    "uplink-enslaved",
    "uplink-gateway-pinned",
    "other-links-address",
    "pod-network-unrouted",
    "uplink-down",
    "uplink-gateway-unresolved",
    "network-overlap",
    "destination-overlap",
  ],
  run: (context) => [
    ...rulesMissing(context),
    ...noRoute(context),
    ...capturedOrUplink(context),
    ...toLoopback(context),
    ...endsInVain(context),
    ...failingLegs(context),
    ...sourceUnanswered(context),
    ...ttlExceeded(context),
    ...proxyWithoutRoute(context),
    ...enslavedUplink(context),
    ...astray(context),
    ...inside(context),
  ],
  suspects: (context) => [
    ...capturedElsewhere(context),
    ...pinnedGateway(context),
    ...unroutedNetwork(context),
    ...otherLinksAddress(context),
  ],
};

/** The rules that every kernel begins with: local, main (and, in IPv4, default, which is empty everywhere). */
function rulesMissing(context: CheckContext): Finding[] {
  const { family } = context;
  const own = context.snapshot.node.rules.filter((rule) => rule.family === family);
  if (own.length === 0 && context.snapshot.missing.some((one) => one.what === "rules")) return [];
  const wanted: readonly (readonly [number, number])[] = [
    [0, RT_TABLE.local],
    [32766, RT_TABLE.main],
  ];
  const missing = wanted.filter(
    ([, table]) =>
      !own.some((rule) => rule.action === "table" && rule.table === table && rule.source === undefined),
  );
  if (missing.length === 0) return [];
  const ip = family === 6 ? "ip -6" : "ip";
  return [
    finding("node-rules-missing", {
      text: `the node has no rule “from all lookup ${routingTableText(missing[0]![1])}”`,
      owner: "the program that deleted it (systemd-networkd removes rules it did not make)",
      evidence: [
        { source: `${ip} rule`, value: own.length === 0 ? "none" : own.map(policyRuleText).join("; ") },
      ],
      consequence: "the table is never asked",
      fix: missing.map(([priority, table]) =>
        context.fix(
          "node",
          command`ip ${family === 6 ? ["-6"] : []} rule add priority ${priority} from all lookup ${routingTableText(table)}`,
        ),
      ),
    }),
  ];
}

function noRoute(context: CheckContext): Finding[] {
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
      if (stop.route === undefined && stop.rule === undefined) {
        const defaults = view.state.routes.filter(
          (route) => route.family === context.family && isDefaultRoute(route),
        );
        const likely = likelyUplink(context);
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
        owner: OWNER,
        evidence: [asked, { source: stop.route === undefined ? `${ip} rule` : `${ip} route`, value: text }],
        consequence: "packets from the pods to this destination end here",
        ...(stop.route === undefined
          ? { fix: deletePolicyRule(context, stop.rule!) }
          : deleteRoute(context, "node", stop.route)),
      });
    });
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
  const narrow = context.family === 6 ? outer.filter((link) => link.mtu < LEAST_IPV6_MTU) : [];
  const off = context.family === 6 ? outer.filter((link) => setTo(view, link, "disable_ipv6", 1)) : [];
  const forwards = context.family === 6 && view.sysctl("net.ipv6.conf.all.forwarding") === 1;
  const deaf = outer.filter((link) => forwards && link.up && setTo(view, link, "accept_ra", 1));
  const name = (link: Link, key: string): string => `net.ipv6.conf.${link.name}.${key}`;
  const reasons = [
    ...down.map((link) => `${link.name} is down`),
    ...narrow.map((link) => `${link.name} has an mtu of ${link.mtu}, and IPv6 needs ${LEAST_IPV6_MTU}`),
    ...off.map((link) => `IPv6 is switched off on ${link.name}`),
  ];
  return {
    text: reasons.length === 0 ? "" : `; ${reasons.join(", ")}`,
    evidence: [
      ...down.map((link) => ({ source: "links of the node", value: linkText(link) })),
      ...off.map((link) => sysctlEvidence(name(link, "disable_ipv6"), 1)),
      ...deaf.map((link) => sysctlEvidence(name(link, "accept_ra"), 1)),
    ],
    advice: [
      ...down.flatMap((link) => said("its routes went with it: ", command`ip link set dev ${link.name} up`)),
      ...narrow.flatMap((link) =>
        said(
          "its addresses and routes went with it: ",
          command`ip link set dev ${link.name} mtu ${LEAST_IPV6_MTU}`,
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
  const podLinks = new Set(
    snapshot.pods.flatMap((pod) => pod.state?.links.flatMap((link) => link.link ?? []) ?? []),
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

/** What is wrong with a way out that only a rule chose is the rule's effect. */
function capturedOrUplink(context: CheckContext): Finding[] {
  const captured = capturedInVain(context);
  return captured.length > 0 ? captured : uplink(context);
}

function uplink(context: CheckContext): Finding[] {
  const { outLink } = context.path;
  const found: Finding[] = [];
  for (const kind of ["link-down", "no-carrier"] as const) {
    for (const stop of context.stops(kind)) {
      if (stop.place !== "node" || stop.link.index !== outLink?.index) continue;
      found.push(
        finding("uplink-down", {
          text: `${stop.link.name}, the node's way out, is ${kind === "link-down" ? "down" : "without carrier"}`,
          owner: OWNER,
          evidence: [{ source: "links of the node", value: linkText(stop.link) }],
          consequence: "nothing leaves the node",
          // A link without carrier is up already: what is wrong is at the link's other end.
          ...(kind === "link-down"
            ? { fix: [context.linkUp("node", stop.link.name)] }
            : {
                advice: [
                  `look at the other end of ${stop.link.name} (switch port, veth peer): it is down or gone`,
                ],
              }),
        }),
      );
    }
  }
  for (const stop of context.stops("neighbour-failed")) {
    if (stop.link.index !== outLink?.index) continue;
    found.push(
      finding("uplink-gateway-unresolved", {
        text: `the node's gateway ${stop.address} does not answer on ${stop.link.name}`,
        owner: "the network outside the node",
        evidence: [
          { source: "ip neigh", value: `${stop.address} dev ${stop.link.name} ${stop.state.toUpperCase()}` },
        ],
        consequence: "nothing leaves the node",
        // To ask again is what the kernel does with every packet: it is the answer that is missing.
        advice: [
          `is ${stop.address} the right gateway, and is it up?`,
          ...otherDefaults(context, stop.address).map((text) => `“${text}” is there, too, and not used`),
        ],
        confidence: "likely",
      }),
    );
  }
  return found;
}

/** Default routes by another gateway, which the one that was chosen stands before. */
function otherDefaults({ node, family }: CheckContext, gateway: string): string[] {
  const { routes, links } = node.view.state;
  return routes
    .filter(
      (route) =>
        route.family === family &&
        route.table === RT_TABLE.main &&
        isDefaultRoute(route) &&
        hopsOf(route).some((hop) => hop.interface !== undefined) &&
        hopsOf(route).every((hop) => hop.gateway !== gateway),
    )
    .map((route) => routeText(route, links));
}

/** The answer would be routed elsewhere than to the pod. */
function astray(context: CheckContext): Finding[] {
  const { view } = context.node;
  const lost = context
    .stops("no-route")
    .filter((stop) => stop.place === "node" && stop.direction === "back")
    .map(
      (stop) =>
        answersRefused(context, stop) ??
        finding("network-overlap", {
          text: `the node has no route back to ${stop.destination}${stop.route === undefined ? "" : `: “${routeText(stop.route, view.state.links)}” is all that is left`}`,
          owner: OWNER,
          evidence: [{ source: `ip route get ${stop.destination}`, value: stop.error }],
          consequence: "answers reach the node and end there",
          ...routeBackPast(context, stop.destination, stop.route),
        }),
    );
  const elsewhere = context.stops("astray").map((stop) => {
    const captured = answersCaptured(context, stop);
    if (captured !== undefined) return captured;
    const text = stop.route === undefined ? `dev ${stop.link.name}` : routeText(stop.route, view.state.links);
    return finding("network-overlap", {
      text: `the way back to ${context.pod.name} (${stop.address}) leads to ${stop.link.name}, not to ${stop.expected.name}: “${text}”`,
      owner: OWNER,
      evidence: [
        { source: `ip route get ${stop.address}`, value: text },
        { source: `${context.pod.name} is connected to`, value: stop.expected.name },
      ],
      consequence: "answers go to other hosts",
      fix: forAddress(context, stop.address, () => routeBack(context, stop.address)),
      advice: ["for good: give one of the two networks another range"],
    });
  });
  return [...lost, ...elsewhere];
}

/** The destination lies in the range of another bridge of this node, on which nobody has it. */
function inside(context: CheckContext): Finding[] {
  const { path, node, snapshot } = context;
  const destination = path.left?.destination;
  if (destination === undefined || path.end !== "outside" || path.outLink?.kind !== "bridge") return [];
  const way = node.view.fib.predict({ destination });
  const bridge = path.outLink;
  if (way.kind !== "route" || way.gateway !== undefined || way.link.index !== bridge.index) return [];
  const { links, neighbours, routeAnswers } = node.view.state;
  // Who has the address was only asked for the destinations that the snapshot was taken for.
  if (!routeAnswers.some(({ query }) => query.destination === destination)) return [];
  // Behind a port that is no pod's, and for whoever has answered, this node cannot speak.
  if (links.some((link) => link.master === bridge.index && link.kind !== "veth")) return [];
  const known = neighbours.find((one) => one.interface === bridge.index && one.address === destination);
  if (known?.mac !== undefined && known.state !== "failed") return [];
  const text = way.route === undefined ? `dev ${bridge.name}` : routeText(way.route, links);
  const ports = links.filter((link) => link.master === bridge.index).length;
  return [
    finding("destination-overlap", {
      text: `${destination} lies in the range of ${bridge.name}, a network of this node, where no pod has it: “${text}”`,
      owner: OWNER,
      evidence: [
        { source: `ip route get ${destination}`, value: text },
        { source: `ports of ${bridge.name}`, value: ports === 0 ? "none" : `${ports}, all of pods` },
        { source: `pods of the snapshot with ${destination}`, value: `none of ${snapshot.pods.length}` },
      ],
      consequence: "packets for it never leave the node",
      ...rangeTaken(context, way.route, bridge.name),
      confidence: "likely",
    }),
  ];
}

/** The destination alone goes out by the default route; the bridge keeps its range. */
function rangeTaken(
  context: CheckContext,
  route: Route | undefined,
  bridge: string,
): { readonly fix?: readonly (Fix | undefined)[]; readonly advice: readonly string[] } {
  const forGood = `for good: give the network of ${bridge} another range`;
  if (route !== undefined && isDefaultRoute(route)) {
    return {
      advice: [
        `“${routeText(route, context.node.view.state.links)}” must be deleted by the program that made it`,
      ],
    };
  }
  return { fix: hostRoute(context), advice: [forGood] };
}
