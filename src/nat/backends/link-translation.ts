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
  /** How many connections it has room for. */
  readonly room: number;
  /** What it has counted since it was set up: "begun", "dropped: no free port". */
  readonly counts: Readonly<Record<string, number>>;
}
