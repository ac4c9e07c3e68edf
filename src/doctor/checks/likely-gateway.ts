/** Which gateway the pod should have, when its own route is gone. */
import { familyOf } from "../../address/ip.ts";
import { cidrContains, cidrOf } from "../../address/cidr.ts";
import type { Link } from "../../linux/route/link.ts";
import type { CheckContext } from "../check.ts";
import { isDefaultRoute } from "../predict/fib.ts";

/**
 * At most one for each family: what the runtime promised, else the address of the bridge behind the pod's veth that
 * lies in the pod's network. Empty when a default route is there or nobody can tell.
 */
export function likelyGateway(context: CheckContext, link: Link): string[] {
  const { pod, inside, node } = context;
  if (inside === undefined) return [];
  const { state } = inside.view;
  const families = [
    ...new Set(state.addresses.filter((one) => one.interface === link.index).map((one) => one.family)),
  ];
  return families.flatMap((family) => {
    const there = state.routes.some(
      (route) => route.family === family && isDefaultRoute(route) && route.type === "unicast",
    );
    if (there) return [];
    const promised = pod.expected?.gateways.find((one) => familyOf(one) === family);
    if (promised !== undefined) return [promised];
    const host = context.hostEndOf(link);
    const taker = node.view.linkAt(host?.master) ?? host;
    const own = state.addresses.filter(
      (one) => one.interface === link.index && one.family === family && one.scope === "global",
    );
    const gateway = node.view.state.addresses.find(
      (one) =>
        one.interface === taker?.index &&
        one.scope === "global" &&
        own.some(
          (mine) =>
            mine.family === one.family && cidrContains(cidrOf(mine.address, mine.prefixLength), one.address),
        ),
    );
    return gateway === undefined ? [] : [gateway.address];
  });
}
