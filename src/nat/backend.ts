import type { NatIntent } from "./intent.ts";

/** The ways to carry out an intent. `none` leaves NAT to somebody else: a cloud gateway, an eBPF program. */
export const NAT_BACKENDS = ["nftables", "iptables", "none"] as const;
export type NatBackendName = (typeof NAT_BACKENDS)[number];

/** One thing that is not as an intent wants it. */
export interface NatDrift {
  readonly kind:
    | "table-missing"
    | "chain-missing"
    | "chain-changed"
    | "jump-missing"
    | "rule-missing"
    | "rule-changed"
    | "set-missing"
    | "element-missing"
    | "element-changed"
    | "owner-missing";
  /** The object, in the backend's own words: `map inet wayout egress4`. */
  readonly object: string;
  /** A sentence with the values that were expected and found. */
  readonly text: string;
}

/** What apply or remove did. */
export interface NatChange {
  /** False when everything was as wanted already; then no transaction was made. */
  readonly changed: boolean;
  /** What was mended or made, for people; empty when nothing was. */
  readonly drifts: readonly NatDrift[];
}

/**
 * NAT in one network namespace. Everything is synchronous and speaks plain intent values. All calls leave other
 * owners, and other people's rules, as they are.
 *
 * Every call may throw WayoutError: `no-privilege`, `no-nftables`, `no-iptables` (kind machine), `nat-refused` (kind
 * broken, with what the kernel or the program said).
 */
export interface NatBackend extends Disposable {
  readonly name: NatBackendName;
  /** Makes the kernel do what the intent says, at once or not at all. Nothing is written when nothing differs. */
  apply(intent: NatIntent): NatChange;
  /** Whether apply would have to change something; empty when all is well. Cheap: it reads only what is ours. */
  verify(intent: NatIntent): NatDrift[];
  /** Takes back what the owner wanted; without an owner, everything of ours. False when there was nothing. */
  remove(owner?: string): boolean;
  /** What all owners want, as read back from the kernel, sorted by owner. */
  intents(): NatIntent[];
  /** The ruleset after `apply(intent)`, as text of the backend's own language, without touching anything. */
  describe(intent: NatIntent): string;
}
