/** A second network took the pod's default route, and has no gateway; the first one still has its own. */
import { familyOf } from "../../address/ip.ts";
import { cidrContains, cidrOf } from "../../address/cidr.ts";
import { finding, type CheckContext } from "../check.ts";
import type { Finding } from "../finding.ts";
import { routeInPod } from "./gateway.ts";

/** What the packet meets behind the wrong gateway is its effect: it has another network's source there. */
export function secondNetwork(context: CheckContext): Finding[] {
  const { pod, path, target } = context;
  const [stop] = path.stops;
  const { podLink } = path;
  if (stop?.kind !== "gateway-unowned" || podLink === undefined || path.gateway === undefined) return [];
  const way = otherWay(context, familyOf(stop.gateway));
  if (way === undefined) return [];
  return [
    finding("pod-route-captures", {
      text: `${pod.name}'s default route leads by ${podLink.name} to ${stop.gateway}, which no interface has; its network by ${way.link} has a gateway, ${way.gateway}`,
      owner: `the program that made the default route of ${podLink.name} (a second network)`,
      evidence: [
        { source: `route of ${pod.name} to ${target.address}`, value: routeInPod(context) },
        { source: `gateway of ${way.link}`, value: `${way.gateway}, an address of this node` },
      ],
      consequence: "the pod asks for its gateway's MAC address and gets no answer",
      fix: [context.defaultRoute(way.gateway, way.link)],
      advice: [
        `for good: only one network of the pod names a default route (${podLink.name}'s without gateway)`,
      ],
    }),
  ];
}

/** Another interface of the pod, whose bridge has an address in the pod's network there: a way out that exists. */
function otherWay(context: CheckContext, family: 4 | 6): { gateway: string; link: string } | undefined {
  const { inside, node, path } = context;
  const { state } = inside!.view;
  for (const link of state.links) {
    if (link.index === path.podLink?.index || link.kind !== "veth" || !link.up) continue;
    const host = context.hostEndOf(link);
    if (host === undefined) continue;
    const taker = node.view.linkAt(host.master) ?? host;
    const mine = state.addresses.filter(
      (one) => one.interface === link.index && one.family === family && one.scope === "global",
    );
    const gateway = node.view.state.addresses.find(
      (one) =>
        one.interface === taker.index &&
        mine.some(
          (own) =>
            own.family === one.family && cidrContains(cidrOf(own.address, own.prefixLength), one.address),
        ),
    );
    if (gateway !== undefined) return { gateway: gateway.address, link: link.name };
  }
  return undefined;
}
