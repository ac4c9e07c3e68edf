import type { NatIntent } from "../intent.ts";
import type { NatBackendName } from "./backends.ts";

/** What a backend translates beside all rules, at the links by which packets leave. */
export interface LinkTranslation {
  readonly backend: NatBackendName;
  /** What all owners want of it, as read back from the kernel. */
  readonly intents: readonly NatIntent[];
  /** Names of the links at which it sees what leaves, and what arrives. It needs both. */
  readonly egress: readonly string[];
  readonly ingress: readonly string[];
  /** A table of ours that drops what would leave by another link with a pod's address. */
  readonly guard: { readonly family: string; readonly table: string };
  /** How many connections it has room for. */
  readonly room: number;
  /** What it has counted since it was set up: "begun", "dropped: no free port". */
  readonly counts: Readonly<Record<string, number>>;
  /** Whether known connections go past what is between the pods' links and the uplinks; absent: no agent wants it. */
  readonly fastPath?: FastPathState;
}

export interface FastPathState {
  readonly open: boolean;
  /** Why not, a sentence each. */
  readonly obstacles: readonly string[];
}
