/** What can be wrong with a way out that was once made: a code for programs, a sentence for people. */
import type { FindingCode } from "../causes/catalogue/all.ts";

/** The doctor's name for it, wherever the doctor has one. */
export type ProblemCode =
  | Extract<
      FindingCode,
      | "pod-namespace-gone"
      | "pod-interface-missing"
      | "pod-link-down"
      | "pod-no-address"
      | "duplicate-address"
      | "pod-no-route"
      | "host-link-missing"
      | "host-link-down"
      | "host-link-not-enslaved"
      | "bridge-down"
      | "bridge-address-missing"
      | "forwarding-off"
      | "router-advertisement-lost"
      | "nat-missing"
    >
  | "bridge-missing"
  /** A run that made it or took it away was killed. */
  | "half-made"
  /** Our rules are there, but not as they should be. */
  | "nat-drift";

export interface Problem {
  readonly code: ProblemCode;
  /** One short sentence without a full stop. */
  readonly text: string;
}

export function problem(code: ProblemCode, text: string): Problem {
  return { code, text };
}
