import type { Scope } from "./constants.ts";

/** An address on an interface. */
export interface Address {
  readonly family: 4 | 6;
  /** Index of the interface. */
  readonly interface: number;
  /** The interface's own address. */
  readonly address: string;
  readonly prefixLength: number;
  /** The other end of a point-to-point link; absent when it is the address itself. */
  readonly peer?: string;
  readonly broadcast?: string;
  readonly label?: string;
  readonly scope: Scope;
  /** "permanent", "tentative", "dadfailed", "secondary" (IPv4) or "temporary" (IPv6), "nodad", "deprecated"… */
  readonly flags: readonly string[];
  /** Seconds left; absent for ever. */
  readonly preferredSeconds?: number;
  readonly validSeconds?: number;
  /** Metric of the route to the prefix, when one was given. */
  readonly metric?: number;
  /** IFAPROT_*: who made it; absent when nobody said. */
  readonly protocol?: "kernel_lo" | "kernel_ra" | "kernel_ll" | `${number}`;
}

export interface AddressSpec {
  readonly interface: number;
  readonly address: string;
  readonly prefixLength: number;
  readonly peer?: string;
  /** IPv4: absent means the prefix's own broadcast address (none from /31 on), null none. */
  readonly broadcast?: string | null;
  readonly scope?: Scope;
  readonly label?: string;
  /** IPv6: usable at once, without duplicate address detection. */
  readonly nodad?: boolean;
  /** Do not make the route to the prefix. */
  readonly noPrefixRoute?: boolean;
  readonly metric?: number;
  readonly validSeconds?: number;
  readonly preferredSeconds?: number;
}
