/** What a table of the node says about its way out that would make answers stay away. */
import { familyOf } from "../../address/ip.ts";
import { command } from "../../text/command.ts";
import { familyFlag, finding, type CheckContext } from "../check.ts";
import type { Finding } from "../finding.ts";
import { routeText } from "../predict/fib.ts";
import { asksNeighbours, neighbourAt } from "../predict/link-state.ts";
import { preparedNamespace } from "../predict/walk.ts";
import type { NodeView } from "../predict/view.ts";
import { nextHopOf } from "../predict/next-hop.ts";
import { present } from "../../present.ts";
import type { PodState } from "../../snapshot/snapshot.ts";

/** The port of a bridge that is routed over: the bridge takes what comes in, answers to its ARP requests included. */
export function enslavedUplink(context: CheckContext): Finding[] {
  const { outLink, end } = context.path;
  const { view } = context.node;
  const bridge = view.linkAt(outLink?.master);
  if (outLink === undefined || end !== "outside" || bridge?.kind !== "bridge") return [];
  const others = view.state.links.filter((one) => one.master === bridge.index && one.index !== outLink.index);
  const own = view.state.addresses.filter((one) => one.interface === outLink.index && one.scope === "global");
  return [
    finding(
      "uplink-enslaved",
      present({
        text: `${outLink.name}, the node's way out, is a port of bridge ${bridge.name}: what comes in goes to the bridge, and the node's addresses and routes are ${outLink.name}'s`,
        owner: `the program that put ${outLink.name} into ${bridge.name}`,
        evidence: [
          { source: `links of the node: ${outLink.name}`, value: `master ${bridge.name}` },
          {
            source: `addresses of ${outLink.name}`,
            value: own.map((one) => `${one.address}/${one.prefixLength}`).join(", ") || "none",
          },
          {
            source: `route to ${context.path.left?.destination ?? context.target.address}`,
            value: `dev ${outLink.name}`,
          },
        ],
        consequence: `answers to ${outLink.name}'s ARP requests reach ${bridge.name}, and its neighbours are forgotten`,
        fix:
          others.length === 0
            ? [
                context.fix("node", command`ip link set dev ${outLink.name} nomaster`, undefined, {
                  kind: "leave-bridge",
                  link: outLink.name,
                }),
              ]
            : undefined,
        advice: [`give ${bridge.name} the addresses and routes that ${outLink.name} has`],
        confidence: "likely",
      }),
    ),
  ];
}

/** The node's own gateway has a neighbour entry that is never asked about again. */
export function pinnedGateway(context: CheckContext): Finding[] {
  const { outLink, end } = context.path;
  const gateway = nextHopOf(context.snapshot.node, context.path);
  if (outLink === undefined || gateway === undefined || end !== "outside") return [];
  const known = neighbourAt(context.node.view, outLink, gateway);
  // A link without ARP has such entries by itself.
  const isFixed = known?.state === "permanent" || (known?.state === "noarp" && asksNeighbours(outLink));
  if (!isFixed || known?.mac === undefined) return [];
  const state = known.state.toUpperCase();
  const flag = familyOf(gateway) === 6 ? "-6 " : "";
  return [
    finding("uplink-gateway-pinned", {
      text: `the node has ${gateway === context.path.left?.destination ? "" : "its gateway "}${gateway} fixed at ${known.mac} (${state}), and does not ask whether that is still so`,
      owner: "the program that fixed the entry",
      evidence: [
        {
          source: `ip ${flag}neigh show dev ${outLink.name}`,
          value: `${gateway} lladdr ${known.mac} ${state}`,
        },
      ],
      consequence:
        "when the router was replaced, or its address moved, frames go to a MAC address that no host has",
      fix: [
        context.fix(
          "node",
          command`ip ${familyFlag(gateway)} neigh del ${gateway} dev ${outLink.name}`,
          undefined,
          {
            kind: "forget-neighbour",
            place: "node",
            link: outLink.index,
            address: gateway,
          },
        ),
      ],
      confidence: "likely",
    }),
  ];
}

/** ARP is off where a neighbour has to be asked for a MAC address. */
export function withoutArp(context: CheckContext): Finding[] {
  return context.stops("link-noarp").map(({ link, address, place }) => {
    const where = place === "pod" ? `in ${context.pod.name}` : "of the node";
    const known = neighbourAt(place === "pod" ? context.inside!.view : context.node.view, link, address);
    return finding("link-noarp", {
      text: `ARP is off on ${link.name} ${where} (NOARP), by which ${address} is to be reached: frames for it are addressed to ${link.name} itself`,
      owner: `the program that switched it off on ${link.name}`,
      evidence: [
        { source: `links ${where}: ${link.name}`, value: link.flags.join(",") },
        ...(known?.mac === undefined
          ? []
          : [
              {
                source: `ip neigh show dev ${link.name}`,
                value: `${address} lladdr ${known.mac} ${known.state.toUpperCase()}`,
              },
            ]),
      ],
      consequence: "no host takes the frames, and requests for the link's own addresses are not answered",
      fix: [
        context.fix(place, command`ip link set dev ${link.name} arp on`, undefined, {
          kind: "arp-on",
          place,
          link: link.name,
        }),
      ],
    });
  });
}

/**
 * The node sends what came from a pod's network back into it, to a pod there. A fault where that pod has no link but this
 * node's: all it could do is to send it back once more. Otherwise a reason when no answer comes.
 * @param when `certain`: only the former, `silent`: only the latter
 */
export function inwardRoute(context: CheckContext, when: "certain" | "silent"): Finding[] {
  const { outLink, inLink, routed } = context.path;
  const { view } = context.node;
  if (outLink === undefined || routed === undefined || outLink.index !== inLink?.index) return [];
  const way = context.routedWay;
  if (way?.kind !== "route" || way.gateway === undefined || way.route === undefined) return [];
  const text = routeText(way.route, view.state.links);
  const holder = context.snapshot.pods.find(
    (pod) => pod.state?.addresses.some((one) => one.address === way.gateway) === true,
  );
  const isDeadEnd =
    holder !== undefined && hasOnlyThisNode(context, holder) && sendsBack(holder, routed.destination, view);
  if (isDeadEnd !== (when === "certain")) return [];
  const who = holder === undefined ? way.gateway : `${way.gateway} (${holder.name})`;
  return [
    finding("node-route-inward", {
      text: `route “${text}” of the node sends what comes from ${inLink.name} back into it, to ${who}: the node has no way out of its own for it`,
      owner: "the node's routing",
      evidence: [
        {
          source: `ip route get ${routed.destination} from ${routed.source} iif ${inLink.name}`,
          value: text,
        },
        ...(holder === undefined ? [] : [{ source: "who has the gateway's address", value: holder.name }]),
        ...(isDeadEnd ? [{ source: `links of ${holder.name}`, value: "none but those to this node" }] : []),
      ],
      consequence: isDeadEnd
        ? `${who} has no way out but this node`
        : `${who} has to forward and to translate it`,
      advice: [
        `give the node a default route by its uplink (ip ${familyFlag(routed.destination)
          .map((one) => `${one} `)
          .join("")}route add default via GATEWAY), or see why ${who} does not pass it on`,
      ],
      confidence: "likely",
    }),
  ];
}

/** By its own routes it gives a packet for there to this node once more, or it has none (that were read). */
function sendsBack({ state }: PodState, destination: string, node: NodeView): boolean {
  const way = state === undefined ? undefined : preparedNamespace(state).view.fib.predict({ destination });
  if (way?.kind !== "route") return true;
  return way.gateway !== undefined && node.fib.isLocal(way.gateway);
}

/** Every link of the pod's is a veth whose other end is on this node. */
function hasOnlyThisNode(context: CheckContext, { state }: PodState): boolean {
  if (state === undefined) return false;
  const links = state.links.filter((link) => link.layer !== "loopback");
  return links.length > 0 && links.every((link) => context.hostEndOf(link, state) !== undefined);
}
