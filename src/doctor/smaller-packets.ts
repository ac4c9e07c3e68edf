/** How a pod is made to send smaller packets, without losing anything by it. */
import { command } from "../text/command.ts";
import type { CheckContext, Found } from "./check.ts";
import { routeWords } from "./predict/fib.ts";
import { IPV6_MIN_MTU } from "../linux/link-layer.ts";

/**
 * The link's MTU where that is possible; below what IPv6 needs only the IPv4 route's.
 * @param mtu of the whole IP packet that passes
 */
export function smallerPackets(context: CheckContext, mtu: number): Required<Pick<Found, "fix" | "advice">> {
  const { podLink } = context.path;
  const state = context.inside?.view.state;
  if (podLink === undefined || state === undefined) return { fix: [], advice: [] };
  const hasIpv6 = state.addresses.some((one) => one.family === 6 && one.interface === podLink.index);
  if (mtu >= IPV6_MIN_MTU || !hasIpv6) {
    return {
      fix: [
        context.fix("pod", command`ip link set dev ${podLink.name} mtu ${mtu}`, undefined, {
          kind: "link-mtu",
          place: "pod",
          link: podLink.name,
          mtu,
        }),
      ],
      advice: [`for every pod of the node: mtu ${mtu} in the network's configuration`],
    };
  }
  const needs = `IPv6 needs ${IPV6_MIN_MTU} bytes on every link, and QUIC 1228 over IPv4: give the way out a larger mtu; a smaller one on ${podLink.name} would take the pod's IPv6 away`;
  const way = context.inside?.view.fib.predict({ destination: context.target.address });
  if (context.family === 6 || way?.kind !== "route" || way.route === undefined)
    return { fix: [], advice: [needs] };
  const route = routeWords(way.route, state.links);
  return { fix: [context.fix("pod", command`ip route change ${route} mtu ${mtu}`)], advice: [needs] };
}
