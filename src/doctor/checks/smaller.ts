/** The pod sends no more than what comes through. */
import type { CheckContext } from "../check.ts";
import type { Fix } from "../finding.ts";
import { routeText } from "../predict/fib.ts";
import { IPV6_MIN_MTU } from "../remedy/change.ts";

/** The link's size; below IPv6's minimum only that of IPv4's route, since the link would lose IPv6 altogether. */
export function smaller(context: CheckContext, mtu: number): Fix[] {
  const { podLink } = context.path;
  if (podLink === undefined) return [];
  const { name } = podLink;
  const hasIpv6 = context.inside?.view.state.addresses.some(
    (one) => one.family === 6 && one.interface === podLink.index,
  );
  if (mtu >= IPV6_MIN_MTU || hasIpv6 !== true) {
    const change = { kind: "link-mtu", place: "pod", link: name, mtu } as const;
    return [context.fix("pod", `ip link set ${name} mtu ${mtu}`, undefined, change)];
  }
  const way = context.inside?.view.fib.predict({ destination: context.target.address });
  if (context.family === 6 || way?.kind !== "route" || way.route === undefined) return [];
  const route = routeText(way.route, context.inside!.view.state.links);
  return [context.fix("pod", `ip route change ${route} mtu ${mtu}`)];
}
