/** To whom the node gives a packet on the link that it leaves by. */
import type { NamespaceState } from "../../snapshot/snapshot.ts";
import type { Prediction } from "./path.ts";
import { preparedNamespace } from "./walk.ts";

/** The gateway, or the destination itself where the route has none; undefined for what does not leave. */
export function nextHopOf(node: NamespaceState, path: Prediction): string | undefined {
  const { routed, inLink, outLink } = path;
  if (routed === undefined || inLink === undefined || outLink === undefined) return undefined;
  const { source, destination, mark } = routed;
  const way = preparedNamespace(node).view.fib.predict({ source, destination, mark, iif: inLink.name });
  if (way.kind !== "route" || way.type !== "unicast" || way.link.index !== outLink.index) return undefined;
  return way.gateway ?? destination;
}
