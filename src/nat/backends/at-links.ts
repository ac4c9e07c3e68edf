/**
 * What backends of ours translate beside all rules, at the links by which packets leave. For those who read a whole node at
 * once; apart from the table of backends, because this brings the code of each along.
 */
import type { NetworkNamespace } from "../../kernel/namespace.ts";
import type { LinkTranslation } from "./link-translation.ts";
import type { ConntrackEntry } from "../../linux/conntrack/entry.ts";
import { trackedByPrograms } from "./ebpf/tracked.ts";
import { ebpfAtLinks } from "./ebpf/at-links.ts";

/** undefined where no backend does. @throws SystemError EPERM */
export function translationAtLinks(namespace: NetworkNamespace): LinkTranslation | undefined {
  return ebpfAtLinks(namespace);
}

/** The connections that are tracked there, as entries of connection tracking. @throws SystemError EPERM */
export function connectionsAtLinks(namespace: NetworkNamespace): readonly ConntrackEntry[] {
  return trackedByPrograms(namespace);
}
