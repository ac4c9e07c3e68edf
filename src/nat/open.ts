/** For commands, whose changes are synchronous: the code of every backend is loaded with this file. */
import type { NetworkNamespace } from "../kernel/namespace.ts";
import type { NatBackend } from "./backend.ts";
import { BACKENDS, NAT_BACKENDS, type NatBackendName } from "./backends/backends.ts";
import { present } from "../present.ts";

const LOADED = new Map(
  await Promise.all(NAT_BACKENDS.map(async (name) => [name, await BACKENDS[name].load()] as const)),
);

const MAY_HOLD = new Map(
  await Promise.all(NAT_BACKENDS.map(async (name) => [name, await BACKENDS[name].mayHold?.()] as const)),
);

/** Whether the backend may hold rules of ours, as far as that can be told for less than by asking it. */
export function mayHold(name: NatBackendName, namespace: NetworkNamespace): boolean {
  return MAY_HOLD.get(name)?.(namespace) ?? true;
}

const REQUIRED = new Map(
  await Promise.all(NAT_BACKENDS.map(async (name) => [name, await BACKENDS[name].require?.()] as const)),
);

/** Before anything else is done for it. @throws WayoutError where this machine, or this user, cannot have the backend */
export function requireNat(name: NatBackendName, namespace: NetworkNamespace, doing: string): void {
  REQUIRED.get(name)?.(namespace, doing);
}

/**
 * The backend of that name in a namespace (the calling thread's when absent).
 * @throws WayoutError with the code of what the machine lacks; no-privilege
 */
export function openNat(name: NatBackendName, namespace?: NetworkNamespace): NatBackend {
  return LOADED.get(name)!(present({ namespace }));
}
