import { WayoutError } from "../error.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { placeFailure } from "../kernel/own-place.ts";
import { isLack, NAT_BACKENDS, type NatBackendName } from "./backends/backends.ts";
import type { NatBackend, NatDrift } from "./backend.ts";
import { GenerationMemory } from "./generation-memory.ts";
import type { NatIntent } from "./intent.ts";
import { readWants } from "./network-wants.ts";
import { removedText } from "./removed.ts";
import { isNetworkOwner, networkOwner } from "../naming/names.ts";
import { mayHold, openNat } from "./open.ts";

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
    if (asked(backend, namespace, (nat) => nat.remove(owner)) === true) removed.push(backend);
  }
  return removed;
}

/**
 * The same at a person's word: of networks that lose their rules it is remembered, so that nobody but their next pod
 * puts them back.
 */
export function removeAtWish(namespace: NetworkNamespace, owner: string | undefined): NatBackendName[] {
  const memory = new GenerationMemory(namespace);
  const networks = new Set(
    memory.findings().flatMap((finding) => {
      const wants = readWants(finding);
      return wants === undefined ? [] : [networkOwner(wants.network)];
    }),
  );
  for (const backend of NAT_BACKENDS) {
    for (const intent of asked(backend, namespace, (nat) => nat.intents()) ?? []) {
      if (isNetworkOwner(intent.owner)) networks.add(intent.owner);
    }
  }
  const removed = removeElsewhere(namespace, owner);
  for (const network of networks) {
    if (owner !== undefined && owner !== network) continue;
    memory.drop((finding) => {
      const wants = readWants(finding);
      return wants !== undefined && networkOwner(wants.network) === network;
    });
    memory.noteLasting(removedText(network));
    if (!memory.findings().includes(removedText(network))) throw notNoted(memory, network);
  }
  return removed;
}

/** What is not noted counts as lost, and is put back. */
function notNoted({ path, directory }: GenerationMemory, network: string): WayoutError {
  const todo = `Check that ${directory} can be written and has room, then remove them again.`;
  return new WayoutError({
    code: "record-not-written",
    kind: "machine",
    doing: `noting in ${path} that the NAT rules of ${network} were taken away`,
    ...placeFailure(
      path,
      "file",
      "it could not be written, and the next STATUS of a runtime puts them back",
      todo,
    ),
  });
}

/** What all owners want, in all backends. @throws WayoutError no-privilege */
export function allIntents(namespace: NetworkNamespace): NatIntent[] {
  return NAT_BACKENDS.flatMap((backend) => {
    if (!mayHold(backend, namespace)) return [];
    return asked(backend, namespace, (nat) => nat.intents()) ?? [];
  });
}

/** What is not as an owner wants it, of its own word in the kernel; undefined when no backend holds any. */
export function driftsOf(namespace: NetworkNamespace, owner: string): readonly NatDrift[] | undefined {
  for (const backend of NAT_BACKENDS) {
    if (!mayHold(backend, namespace)) continue;
    const drifts = asked(backend, namespace, (nat) => {
      const intent = nat.intents().find((one) => one.owner === owner);
      return intent === undefined ? undefined : nat.verify(intent);
    });
    if (drifts !== undefined) return drifts;
  }
  return undefined;
}

/** What owners want, by the backend that holds it; of all backends but the one given. */
export function intentsElsewhere(
  namespace: NetworkNamespace,
  besides?: NatBackendName,
): { readonly backend: NatBackendName; readonly intents: readonly NatIntent[] }[] {
  return NAT_BACKENDS.filter((backend) => backend !== besides).map((backend) => ({
    backend,
    intents: asked(backend, namespace, (nat) => nat.intents()) ?? [],
  }));
}

/** Asks a backend; undefined for one that this machine lacks: it holds nothing. */
function asked<T>(
  backend: NatBackendName,
  namespace: NetworkNamespace,
  ask: (nat: NatBackend) => T,
): T | undefined {
  try {
    using nat = openNat(backend, namespace);
    return ask(nat);
  } catch (error) {
    if (isLack(error)) return undefined;
    throw error;
  }
}
