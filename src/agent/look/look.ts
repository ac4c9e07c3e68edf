/**
 * One look at the whole node: what it is like, and what that means for every pod. It is taken by a process of its own,
 * which hands it over as one JSON value: the snapshot in parts, so that the agent can keep it and never reads it.
 */
import type { Verdict } from "../../doctor/transitions.ts";
import type { Examination } from "../../examination/examine.ts";
import { cutValue, type CutValue } from "../journal/parts.ts";

export interface LookVerdict extends Verdict {
  /** Something that decides could not be read. */
  readonly blind: boolean;
}

export interface Look {
  readonly snapshot: CutValue;
  readonly verdicts: readonly LookVerdict[];
}

export function lookOf({ snapshot, diagnoses }: Examination): Look {
  return {
    // Rules are decoded when they are asked for: as JSON has them they are plain values.
    snapshot: cutValue(JSON.parse(JSON.stringify(snapshot))),
    verdicts: diagnoses.map(({ pod, healthy, blind, answer, findings }) => ({
      pod,
      healthy,
      blind,
      answer,
      findings: findings.map(({ code, text, stopsTraffic }) => ({ code, text, stopsTraffic })),
    })),
  };
}
