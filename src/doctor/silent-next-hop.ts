/** What a real packet learned of the node's next hop, as the neighbour table will say it. */
import type { Neighbour } from "../linux/route/neighbour.ts";
import type { PodState, Snapshot } from "../snapshot/snapshot.ts";
import { ipFamily } from "../address/ip.ts";
import { nextHopOf } from "./predict/next-hop.ts";
import type { Target } from "./predict/path.ts";
import { predictPath } from "./predict/predict.ts";

function withSilent(node: Snapshot["node"], link: number, address: string): Snapshot["node"] {
  const silent: Neighbour = {
    family: ipFamily(address),
    interface: link,
    address,
    state: "failed",
    flags: [],
  };
  const others = node.neighbours.filter((one) => one.interface !== link || one.address !== address);
  return { ...node, neighbours: [...others, silent] };
}

/** The snapshot in which the node's next hop has failed to answer; undefined where none is predicted. */
export function withSilentNextHop(
  snapshot: Snapshot,
  pod: PodState,
  target: Target,
  device: string | undefined,
): { readonly snapshot: Snapshot; readonly pod: PodState } | undefined {
  const { path } = predictPath(snapshot, pod, target);
  const { outLink } = path;
  const address = nextHopOf(snapshot.node, path);
  if (outLink === undefined || address === undefined) return undefined;
  // Another device than the tables promised: what is silent there is no next hop of theirs.
  if (device !== undefined && device !== outLink.name) return undefined;
  return { snapshot: { ...snapshot, node: withSilent(snapshot.node, outLink.index, address) }, pod };
}
