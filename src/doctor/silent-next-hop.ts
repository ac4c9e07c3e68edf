/** What a real packet learned of the node's next hop, as the neighbour table will say it. */
import type { Neighbour } from "../linux/route/neighbour.ts";
import type { PodState, Snapshot } from "../snapshot/snapshot.ts";
import { ipFamily } from "../address/ip.ts";
import { nextHopOf } from "./predict/next-hop.ts";
import type { Target } from "./predict/path.ts";
import { predictPath } from "./predict/predict.ts";

/** The snapshot in which the node's next hop has failed to answer; undefined where none is predicted. */
export function withSilentNextHop(
  snapshot: Snapshot,
  pod: PodState,
  target: Target,
): { readonly snapshot: Snapshot; readonly pod: PodState } | undefined {
  const { path } = predictPath(snapshot, pod, target);
  const { outLink } = path;
  const address = nextHopOf(snapshot.node, path);
  if (outLink === undefined || address === undefined) return undefined;
  const silent: Neighbour = {
    family: ipFamily(address),
    interface: outLink.index,
    address,
    state: "failed",
    flags: [],
  };
  const others = snapshot.node.neighbours.filter(
    (one) => one.interface !== outLink.index || one.address !== address,
  );
  return { snapshot: { ...snapshot, node: { ...snapshot.node, neighbours: [...others, silent] } }, pod };
}
