/** Does the node know a way out, and does it use it for the pod? */
import { KERNEL_RULE } from "../../linux/route/rule.ts";
import type { Route } from "../../linux/route/route.ts";
import { command } from "../../text/command.ts";
import { RT_TABLE, routingTableText } from "../../linux/route/constants.ts";
import { finding, type Check, type CheckContext } from "../check.ts";
import type { Finding, Fix } from "../finding.ts";
import { hopsOf, isDefaultRoute, routeText } from "../predict/fib.ts";
import { policyRuleText } from "../predict/rule-selector.ts";
import { answersCaptured, answersRefused, capturedElsewhere, capturedInVain, passedBy } from "./captured.ts";
import { endsInVain, toLoopback } from "./local-end.ts";
import { failingLegs } from "./legs.ts";
import { proxyWithoutRoute, sourceUnanswered, ttlExceeded } from "./unanswered.ts";
import { hostRoute, routeBackBeside, routeBackPast } from "./route-fix.ts";
import { noRoute } from "./no-route.ts";
import { capturedByRoute } from "./dead-route.ts";
import { networkAgent, routeBackMissing, unroutedNetwork } from "./pod-network.ts";
import { otherLinksAddress, otherUplinksNetwork, silentUplink } from "./source-network.ts";
import { enslavedUplink, inwardRoute, pinnedGateway, withoutArp } from "./uplink.ts";
import { linkManager, networkdDeletes } from "../link-managers.ts";
import { linkText } from "../wording.ts";
import { cidrOf, cidrText } from "../../address/cidr.ts";
import type { Link } from "../../linux/route/link.ts";
import { present } from "../../present.ts";

const OWNER = "the node's routing";

export const nodeRoute: Check = {
  step: "node-route",
  codes: [
    "node-no-route",
    "node-route-refused",
    "node-rules-missing",
    "rule-captures",
    "route-captures",
    "node-route-inward",
    "link-noarp",
    "ends-on-node",
    "loopback-destination",
    "ends-in-pod",
    "leg-fails",
    "leg-passed-over",
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
    ...passedBy(context),
    ...capturedOrUplink(context),
    ...toLoopback(context),
    ...endsInVain(context),
    ...failingLegs(context),
    ...sourceUnanswered(context),
    ...ttlExceeded(context),
    ...proxyWithoutRoute(context),
    ...withoutArp(context),
    ...enslavedUplink(context),
    ...inwardRoute(context, "certain"),
    ...astray(context),
    ...inside(context),
  ],
  suspects: (context) => [
    ...capturedElsewhere(context),
    ...pinnedGateway(context),
    ...unroutedNetwork(context),
    ...routeBackMissing(context),
    ...inwardRoute(context, "silent"),
    ...otherLinksAddress(context),
    ...otherUplinksNetwork(context),
    ...silentUplink(context),
  ],
};

/** The rules that every kernel begins with: local, main (and, in IPv4, default, which is empty everywhere). */
function rulesMissing(context: CheckContext): Finding[] {
  const { family } = context;
  const own = context.snapshot.node.rules.filter((rule) => rule.family === family);
  if (own.length === 0 && context.snapshot.missing.some((one) => one.what === "rules")) return [];
  const wanted: readonly (readonly [number, number])[] = [
    [KERNEL_RULE.local, RT_TABLE.local],
    [KERNEL_RULE.main, RT_TABLE.main],
  ];
  const missing = wanted.filter(
    ([, table]) =>
      !own.some((rule) => rule.action === "table" && rule.table === table && rule.source === undefined),
  );
  if (missing.length === 0) return [];
  const ip = family === 6 ? "ip -6" : "ip";
  const deletes = networkdDeletes(context.snapshot, "foreignRules");
  return [
    finding("node-rules-missing", {
      text: `the node has no rule “from all lookup ${routingTableText(missing[0]![1])}”`,
      owner: linkManager(context.snapshot, "deleted it"),
      evidence: [
        { source: `${ip} rule`, value: own.length === 0 ? "none" : own.map(policyRuleText).join("; ") },
        ...(deletes === undefined ? [] : [deletes.evidence]),
      ],
      consequence: "the table is never asked",
      ...(deletes === undefined ? {} : { advice: [deletes.advice] }),
      fix: missing.map(([priority, table]) =>
        context.fix(
          "node",
          command`ip ${family === 6 ? ["-6"] : []} rule add priority ${priority} from all lookup ${routingTableText(table)}`,
        ),
      ),
    }),
  ];
}

/** What is wrong with a way out that only a rule chose is the rule's effect. */
function capturedOrUplink(context: CheckContext): Finding[] {
  const captured = capturedInVain(context);
  return captured.length > 0 ? captured : [...capturedByRoute(context), ...uplink(context)];
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
    const onLink = context.path.left?.destination === stop.address;
    const peer = onLink ? undefined : peerUnresolved(context, stop.link.name, stop.address, stop.state);
    if (peer !== undefined) {
      found.push(peer);
      continue;
    }
    const network = onLink ? networkOf(context, stop.link) : undefined;
    found.push(
      finding("uplink-gateway-unresolved", {
        text: onLink
          ? `${stop.address} does not answer on ${stop.link.name}, where the node's route${network === undefined ? "" : ` “${network.text}”`} takes it for a neighbour${network?.isWide !== true ? "" : `, by the prefix length of ${network.own ?? "its address"}`}`
          : `the node's gateway ${stop.address} does not answer on ${stop.link.name}`,
        owner:
          onLink && stop.link.kind === "bridge"
            ? `what had ${stop.address} on ${stop.link.name}, a network of this node`
            : "the network outside the node",
        evidence: [
          { source: "ip neigh", value: `${stop.address} dev ${stop.link.name} ${stop.state.toUpperCase()}` },
          ...(network === undefined ? [] : [{ source: `ip route get ${stop.address}`, value: network.text }]),
        ],
        consequence: onLink ? "nothing reaches it" : "nothing leaves the node",
        // To ask again is what the kernel does with every packet: it is the answer that is missing.
        fix: network?.isWide === true ? hostRoute(context) : [],
        advice: [
          onLink
            ? network?.isWide === true
              ? `for good: give ${network.own} the prefix length of its network, so that ${stop.address} goes to the gateway`
              : `is ${stop.address} up, and on the network of ${stop.link.name}?`
            : `is ${stop.address} the right gateway, and is it up?`,
          ...(onLink ? [] : otherDefaults(context, stop.address)).map(
            (text) => `“${text}” is there, too, and not used`,
          ),
        ],
        confidence: "likely",
      }),
    );
  }
  return found;
}

/** Networks that are longer than this are one link's: what does not answer there is down. */
const WIDE = { 4: 16, 6: 48 } as const;

/** The route of an address's own network, by which a destination counts as a neighbour; with the address that made it. */
function networkOf(
  context: CheckContext,
  link: Link,
): { readonly text: string; readonly own?: string; readonly isWide: boolean } | undefined {
  const { view } = context.node;
  const way = context.routedWay;
  if (way?.kind !== "route" || way.route === undefined || way.gateway !== undefined) return undefined;
  const { route } = way;
  const own = view.state.addresses.find(
    (one) =>
      route.protocol === "kernel" &&
      one.interface === link.index &&
      cidrText(cidrOf(one.address, one.prefixLength)) === route.destination,
  );
  return present({
    text: routeText(route, view.state.links),
    own: own === undefined ? undefined : `${own.address}/${own.prefixLength}`,
    // A bridge of this node has hosts of this node.
    isWide: own !== undefined && link.kind !== "bridge" && own.prefixLength <= WIDE[own.family],
  });
}

/** The next hop of a route to one network only: another node of the cluster, a VPN's other end. */
function peerUnresolved(
  context: CheckContext,
  link: string,
  address: string,
  state: string,
): Finding | undefined {
  const { view } = context.node;
  const way = context.routedWay;
  if (way?.kind !== "route" || way.hops !== undefined) return undefined;
  const { route } = way;
  if (route === undefined || isDefaultRoute(route)) return undefined;
  const text = routeText(route, view.state.links);
  const agent = networkAgent(route, view.state.links);
  return finding("uplink-gateway-unresolved", {
    text: `${address}, the next hop of route “${text}”, does not answer on ${link}`,
    owner: agent,
    evidence: [
      { source: `ip route get ${context.path.routed?.destination ?? ""}`, value: text },
      { source: "ip neigh", value: `${address} dev ${link} ${state.toUpperCase()}` },
    ],
    consequence: `nothing reaches ${route.destination}`,
    advice: [
      view.link(link)?.kind === "vxlan"
        ? `on ${link} the MAC address and the tunnel's end for ${address} are written by ${agent}, not asked for: does it run here (its log; bridge fdb show dev ${link}), and is that node still in the cluster?`
        : `is the host ${address} up, and on the network of ${link}?`,
    ],
    confidence: "likely",
  });
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
    const isUnknown = stop.route !== undefined && isDefaultRoute(stop.route);
    return finding("network-overlap", {
      text: isUnknown
        ? `the node has no route back to ${stop.address}, which ${context.pod.name} sends from, but “${text}”: answers leave by ${stop.link.name} again instead of ${stop.expected.name}`
        : `the way back to ${context.pod.name} (${stop.address}) leads to ${stop.link.name}, not to ${stop.expected.name}: “${text}”`,
      owner: OWNER,
      evidence: [
        { source: `ip route get ${stop.address}`, value: text },
        { source: `${context.pod.name} is connected to`, value: stop.expected.name },
      ],
      consequence: "answers go to other hosts",
      fix: routeBackBeside(context, stop.address, stop.route),
      advice: isUnknown
        ? [
            `if ${stop.address} is the pod's: a route to it by ${stop.expected.name}, or an address of its network on ${stop.expected.name}`,
            `if not: take it out of the pod, so that it sends from an address of ${stop.expected.name}'s network`,
          ]
        : ["for good: give one of the two networks another range"],
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
  // This node cannot know what lives behind a port that is no pod's, nor about a host that has answered.
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
