import { WayoutError } from "../error.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { NAT_BACKENDS, type NatBackendName } from "./backend.ts";
import type { NatIntent } from "./intent.ts";
import { openNat } from "./open.ts";

/**
 * Takes an owner's rules (all of ours without one) out of every backend but the one given. Returns the backends that
 * held some.
 */
export function removeElsewhere(
  namespace: NetworkNamespace,
  owner: string | undefined,
  keep?: NatBackendName,
): NatBackendName[] {
  const removed: NatBackendName[] = [];
  for (const backend of NAT_BACKENDS) {
    if (backend === keep) continue;
    using nat = openNat(backend, namespace);
    if (ifAvailable(() => nat.remove(owner)) === true) removed.push(backend);
  }
  return removed;
}

/** What other owners want, by the backend that holds it; of all backends but the one given. */
export function intentsElsewhere(
  namespace: NetworkNamespace,
  besides: NatBackendName,
): { readonly backend: NatBackendName; readonly intents: readonly NatIntent[] }[] {
  return NAT_BACKENDS.filter((backend) => backend !== besides).map((backend) => {
    using nat = openNat(backend, namespace);
    return { backend, intents: ifAvailable(() => nat.intents()) ?? [] };
  });
}

/** A backend that this host lacks holds nothing. */
function ifAvailable<T>(ask: () => T): T | undefined {
  try {
    return ask();
  } catch (error) {
    if (error instanceof WayoutError && ["no-iptables", "no-nftables"].includes(error.code)) return undefined;
    throw error;
  }
}
