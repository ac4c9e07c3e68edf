import type { RouteProtocol } from "./constants.ts";

/** Inclusive. */
export interface NumberRange {
  readonly first: number;
  readonly last: number;
}

/** What picks the packets of a policy routing rule and what happens to them. */
export interface RuleSpec {
  readonly family: 4 | 6;
  readonly priority?: number;
  readonly action?: "table" | "goto" | "nop" | "blackhole" | "unreachable" | "prohibit" | `${number}`;
  readonly table?: number;
  /** action goto: priority of the rule to go on with. */
  readonly goto?: number;
  /** Prefix. */
  readonly source?: string;
  readonly destination?: string;
  /** Name: a rule outlives its interface. */
  readonly inputInterface?: string;
  readonly outputInterface?: string;
  readonly mark?: number;
  /** Absent: all 32 bits. */
  readonly mask?: number;
  readonly tos?: number;
  /** Matches what the rest does not. */
  readonly invert?: boolean;
  readonly uids?: NumberRange;
  readonly ipProtocol?: number;
  readonly sourcePorts?: NumberRange;
  readonly destinationPorts?: NumberRange;
  /** A route with a prefix this short or shorter does not count. */
  readonly suppressPrefixLength?: number;
  readonly suppressGroup?: number;
  readonly protocol?: RouteProtocol;
  readonly l3mdev?: boolean;
}

export interface Rule extends RuleSpec {
  readonly priority: number;
  readonly action: NonNullable<RuleSpec["action"]>;
  readonly table: number;
  readonly protocol: RouteProtocol;
  /** "permanent", "unresolved" (goto nowhere), "iif-detached", "oif-detached" (no such interface now). */
  readonly flags: readonly string[];
}
