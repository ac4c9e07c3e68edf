/**
 * Room `nat/`: which sources are translated, to which address, and who asked for it; and the backends that make rules
 * of it.
 *
 * In: NatIntent (intent.ts): sources, destinations that are left alone, an owner. No rule, chain or program is named
 *   in it.
 * Out: rules in the kernel, and NatDrift: what differs from what was wanted, in no backend's language.
 * Touches: our own tables and chains (backends/), /run/wayout/nat, the lock of the rules; tracked flows that leave
 *   untranslated.
 */
import type { NetworkNamespace } from "../kernel/namespace.ts";
import type { ConntrackEntry } from "../linux/conntrack/entry.ts";
import type { NatIntent } from "./intent.ts";

/** One thing that is not as an intent wants it; in no backend's own terms. */
export interface NatDrift {
  /** What it is about: "map inet wayout egress4". Two drifts of one thing have the same text. */
  readonly object: string;
  readonly expected: string;
  /** `missing` where there is nothing. */
  readonly found: string;
}

/** "map inet wayout egress4 is missing" */
export function driftText({ object, expected, found }: NatDrift): string {
  return found === MISSING ? `${object} is ${MISSING}` : `${object} is ${found}, and should be ${expected}`;
}

export const MISSING = "missing";
export const THERE = "there";

/** What apply did. */
export interface NatChange {
  /** False when everything was as wanted already; then no transaction was made. */
  readonly changed: boolean;
  /** What was mended or made, for people; empty when nothing was. */
  readonly drifts: readonly NatDrift[];
}

/** The same, and what all owners wanted until then, as it was read back from the kernel; absent when nothing was changed. */
export interface AppliedNat extends NatChange {
  readonly before?: readonly NatIntent[];
}

/** Connections that a backend tracks by itself. */
export interface TrackedByBackend {
  entries(): readonly ConntrackEntry[];
  /** Ends exactly these. Returns how many there still were. */
  end(entries: readonly ConntrackEntry[]): number;
}

/**
 * NAT in one network namespace. Everything is synchronous and speaks plain intent values. All calls leave other
 * owners, and other people's rules, as they are.
 *
 * Every call may throw WayoutError: `no-privilege`, the code of what the machine lacks (kind machine), `nat-refused`
 * (kind broken, with what the kernel or the program said).
 */
export interface NatBackend extends Disposable {
  readonly name: string;
  /** Absent where the kernel's connection tracking has the connections that are translated. */
  readonly connections?: TrackedByBackend;
  /** Makes the kernel do what the intent says, at once or not at all. Nothing is written when nothing differs. */
  apply(intent: NatIntent): AppliedNat;
  /**
   * The same for several owners in one transaction, or in one for each family: then what can be made true of the one is,
   * though the other is refused. Absent where each owner has a transaction of its own.
   */
  applyAll?(intents: readonly NatIntent[]): AppliedNat;
  /** Whether apply would have to change something; empty when all is well. Cheap: it reads only what is ours. */
  verify(intent: NatIntent): NatDrift[];
  /** Takes back what the owner wanted; without an owner, everything of ours. False when there was nothing. */
  remove(owner?: string): boolean;
  /** What all owners want, as read back from the kernel, sorted by owner. */
  intents(): NatIntent[];
  /** The ruleset after `apply(intent)`, as text of the backend's own language, without touching anything. */
  describe(intent: NatIntent): string;
}

export interface BackendOptions {
  /** Absent: the calling thread's. */
  readonly namespace?: NetworkNamespace;
}

/** How rules that were found in order are recognised later, without being read. */
export interface RuleMemory {
  /** A number that changes with every change of any program's rules; undefined where it cannot be asked for. */
  generation(namespace: NetworkNamespace): number | undefined;
  /** Text that is the same as long as our own rules are; undefined when they are gone, or of another generation. */
  fingerprint(namespace: NetworkNamespace, generation: number): Promise<string | undefined>;
}

/** By what rules are known to be ours. */
export interface RuleMark {
  /** "inet wayout" */
  readonly table?: string;
  readonly chainPrefix?: string;
  readonly detail?: string;
}
