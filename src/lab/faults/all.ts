/**
 * Faults to practise on: each makes one real cause of "my pod has no way out" in the lab's world, with the same rooms
 * that wayout works with, and can be taken back. The doctor's tests hold every one of them against its finding.
 */
import { breakBridge } from "./bridge.ts";
import type { Fault } from "./fault.ts";
import { breakFilter } from "./filter.ts";
import { breakFlows } from "./flows.ts";
import { breakSizes } from "./sizes.ts";
import { breakNat } from "./nat.ts";
import { breakNode } from "./node.ts";
import { breakPod } from "./pod.ts";

/** Every fault, in the order in which a packet would meet them. */
export const FAULTS: readonly Fault[] = [
  ...breakPod,
  ...breakBridge,
  ...breakNode,
  ...breakFilter,
  ...breakNat,
  ...breakFlows,
  ...breakSizes,
];

export function faultNamed(name: string): Fault | undefined {
  return FAULTS.find((fault) => fault.name === name);
}
