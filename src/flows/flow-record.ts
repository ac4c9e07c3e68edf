import type { ConntrackEntry } from "../linux/conntrack/entry.ts";
import { flowState, podOf, translationOf, type FlowTranslation, type PodIndex } from "./flow.ts";
import { present } from "../present.ts";

/** A flow for programs: the kernel's entry, what it translates, and whose it is. */
export interface FlowRecord extends Omit<ConntrackEntry, "state"> {
  /** As flowState says it, hence never absent. */
  readonly state: string;
  readonly translation: FlowTranslation;
  readonly pod?: string;
}

export function flowRecord(entry: ConntrackEntry, pods: PodIndex): FlowRecord {
  const pod = podOf(entry, pods);
  return {
    ...entry,
    state: flowState(entry),
    translation: translationOf(entry),
    ...present({ pod }),
  };
}
