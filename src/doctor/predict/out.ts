/** The way out: from the pod's socket to the node's out-interface. */
import { leavePod } from "./in-pod.ts";
import { crossNode } from "./node.ts";
import type { Packet } from "./packet.ts";
import type { Walk } from "./walk.ts";
import { crossWire } from "./wire.ts";

/** Follows the first packet. Returns it as it leaves the node or ends there; undefined when it never gets that far. */
export function walkOut(walk: Walk): Packet | undefined {
  const sent = leavePod(walk);
  if (sent === undefined) return undefined;
  const arrived = crossWire(walk, sent);
  if (arrived === undefined) return undefined;
  return crossNode(walk, arrived);
}
