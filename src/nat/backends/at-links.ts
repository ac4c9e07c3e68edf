/**
 * What backends of ours translate beside all rules, at the links by which packets leave. For those who read a whole node at
 * once; apart from the table of backends, because this brings the code of each along.
 */
import type { NetworkNamespace } from "../../kernel/namespace.ts";
import type { LinkTranslation } from "./link-translation.ts";
import type { ConntrackEntry } from "../../linux/conntrack/entry.ts";
import type { IpFamily } from "../../address/ip.ts";
import { endTracked, trackedByPrograms, trackedOf } from "./ebpf/tracked.ts";
import { ebpfAtLinks, holdFastPathOff } from "./ebpf/at-links.ts";

/** undefined where no backend does. @throws SystemError EPERM */
export function translationAtLinks(namespace: NetworkNamespace): LinkTranslation | undefined {
  return ebpfAtLinks(namespace);
}

/** The connections that are tracked there, as entries of connection tracking. @throws SystemError EPERM */
export function connectionsAtLinks(namespace: NetworkNamespace): readonly ConntrackEntry[] {
  return trackedByPrograms(namespace);
}

/** Both ends of what a pod sends; of ICMP the number of the echo is the port of the one who asks, and the other's 0. */
export interface SentEnds {
  readonly family: IpFamily;
  /** IPPROTO_*. */
  readonly protocol: number;
  readonly source: { readonly address: string; readonly port: number };
  readonly destination: { readonly address: string; readonly port: number };
}

/** The one of these ends, without a look at the others. @throws SystemError EPERM */
export function connectionAtLinks(namespace: NetworkNamespace, ends: SentEnds): ConntrackEntry | undefined {
  return trackedOf(namespace, ends);
}

/** Forgets exactly these; entries of the kernel's own are left alone. Returns how many. @throws SystemError EPERM */
export function endConnectionsAtLinks(
  namespace: NetworkNamespace,
  entries: readonly ConntrackEntry[],
): number {
  return endTracked(namespace, entries);
}

/** Lets everything be seen on its whole way, until it is disposed of, for `ms` at most. @throws SystemError EPERM */
export function showWholeWay(namespace: NetworkNamespace, ms: number): Disposable | undefined {
  return holdFastPathOff(namespace, ms);
}
