/** The stages of the picture, in the order in which a packet goes through them, and what belongs to which. */
import type { StepName } from "../../causes/steps.ts";

export const STAGES = ["pod", "bridge", "forward", "translate", "uplink", "outside"] as const;
export type Stage = (typeof STAGES)[number];

export const STAGE_TITLES: Readonly<Record<Stage, string>> = {
  pod: "Pods",
  bridge: "Bridge",
  forward: "Routing, filters",
  translate: "Translation",
  uplink: "Uplink",
  outside: "Outside",
};

const STAGE_OF_STEP: Readonly<Record<StepName, Stage>> = {
  "pod-link": "pod",
  "pod-address": "pod",
  "pod-route": "pod",
  dns: "pod",
  gateway: "bridge",
  bridge: "bridge",
  forwarding: "forward",
  "node-route": "forward",
  "reverse-path": "forward",
  filter: "forward",
  housekeeping: "forward",
  nat: "translate",
  conntrack: "translate",
  mtu: "uplink",
};

export function stageOf(step: StepName): Stage {
  return STAGE_OF_STEP[step];
}

/** Where a packet is at each of the nine steps of a trace. */
const STAGE_OF_TRACE: readonly Stage[] = [
  "pod",
  "bridge",
  "forward",
  "translate",
  "translate",
  "uplink",
  "uplink",
  "translate",
  "pod",
];

export function stageOfTraceStep(number: number): Stage {
  return STAGE_OF_TRACE[number - 1] ?? "pod";
}
