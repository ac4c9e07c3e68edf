/**
 * What backends of ours translate beside all rules, at the links by which packets leave. For those who read a whole node at
 * once; apart from the table of backends, because this brings the code of each along.
 */
import type { NetworkNamespace } from "../../kernel/namespace.ts";
import type { NatIntent } from "../intent.ts";
import type { NatBackendName } from "./backends.ts";
import type { ConntrackEntry } from "../../linux/conntrack/entry.ts";
import { trackedByPrograms } from "./ebpf/tracked.ts";
import { ebpfAtLinks } from "./ebpf/at-links.ts";

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

/** undefined where no backend does. @throws SystemError EPERM */
export function translationAtLinks(namespace: NetworkNamespace): LinkTranslation | undefined {
  return ebpfAtLinks(namespace);
}

/** The connections that are tracked there, as entries of connection tracking. @throws SystemError EPERM */
export function connectionsAtLinks(namespace: NetworkNamespace): readonly ConntrackEntry[] {
  return trackedByPrograms(namespace);
}
