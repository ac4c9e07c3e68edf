/**
 * Room `ipam/`: address management with host-local's files: what its ADD, DEL, CHECK, GC and STATUS do, in this
 * process.
 *
 * In: the `ipam` part of a network configuration, a container and its interface.
 * Out: an Assignment: addresses, gateways, routes, DNS; or a WayoutError.
 * Touches: /var/lib/cni/networks/NETWORK (or dataDir), under its lock; resolv.conf where the configuration names one.
 */
import { messageOf, rethrowMistake, WayoutError } from "../error.ts";
import { MOST_SETTINGS_BYTES, readRegular } from "../kernel/file.ts";
import type { AssignedAddress, Assignment, Dns, AddressOwner } from "./assignment.ts";
import type { HostLocalConfiguration } from "./configuration.ts";
import {
  addressesAfter,
  capacityOf,
  rangeOf,
  rangeSetText,
  type AllocationRange,
  type RangeSet,
} from "./range.ts";
import { dnsOf } from "./resolv-conf.ts";
import { AddressStore, countFiles, addressHolder, requireStore } from "./store.ts";

/**
 * Gives an owner one address of every range set, or nothing.
 * @throws WayoutError `already-attached`, `no-address-left`, `address-taken`, `resolv-conf`, `address-store`
 */
export function assign(configuration: HostLocalConfiguration, owner: AddressOwner): Assignment {
  const dns = readDns(configuration.resolvConf);
  using store = AddressStore.open(configuration.directory);
  const held = store.addressesOf(owner);
  if (held.length > 0) throw alreadyAttached(configuration, owner, held);
  const claimed: string[] = [];
  try {
    const addresses = configuration.sets.map((set, index) => {
      const { address, range } = claimOne(store, configuration, set, index, owner);
      claimed.push(address);
      return assigned(address, range);
    });
    store.record(owner, claimed);
    return { addresses, routes: configuration.routes, dns };
  } catch (error) {
    giveBack(store, owner, claimed);
    throw error;
  }
}

/** After a failure, whose story is the one to tell even when this fails, too. */
function giveBack(store: AddressStore, owner: AddressOwner, claimed: readonly string[]): void {
  try {
    store.release(owner, claimed);
  } catch (error) {
    rethrowMistake(error);
    // DEL and garbage collection find what is left.
  }
}

function claimOne(
  store: AddressStore,
  { network, requested }: HostLocalConfiguration,
  set: RangeSet,
  index: number,
  owner: AddressOwner,
): { readonly address: string; readonly range: AllocationRange } {
  for (const wanted of requested) {
    const range = rangeOf(set, wanted);
    if (range === undefined) continue;
    if (store.claim(wanted, owner, index)) return { address: wanted, range };
    throw addressTaken(store.directory, network, wanted);
  }
  let taken: ReadonlySet<string> = new Set();
  for (const candidate of addressesAfter(set, store.lastReserved(index))) {
    if (taken.has(candidate.address)) continue;
    if (store.claim(candidate.address, owner, index)) return candidate;
    // Going round: look once what is taken instead of trying address by address.
    if (taken.size === 0) taken = new Set(store.addresses());
  }
  throw noAddressLeft(network, set);
}

function assigned(address: string, range: AllocationRange): AssignedAddress {
  return { address: `${address}/${range.subnet.prefixLength}`, gateway: range.gateway };
}

/**
 * Gives back all that an owner holds; the addresses that were freed. Never fails for want of a configuration that
 * makes sense: the files say what is held.
 * @param directory the network's own: `dataDir/network`
 */
export function release(directory: string, owner: AddressOwner): string[] {
  using store = AddressStore.openExisting(directory);
  return store?.release(owner) ?? [];
}

/** The addresses that an owner holds. */
export function reservedBy(directory: string, owner: AddressOwner): readonly string[] {
  using store = AddressStore.openExisting(directory);
  return store?.addressesOf(owner) ?? [];
}

/**
 * Whether the reservation of these addresses stands.
 * @throws WayoutError `reservation-lost`
 */
export function check(directory: string, owner: AddressOwner, addresses: readonly string[]): void {
  for (const address of addresses) {
    const holder = addressHolder(directory, address);
    if (
      holder?.container === owner.container &&
      (holder.interfaceName === "" || holder.interfaceName === owner.interfaceName)
    ) {
      continue;
    }
    throw new WayoutError({
      code: "reservation-lost",
      kind: "broken",
      doing: `checking the reservation of ${address}`,
      said:
        holder === undefined
          ? `${directory}/${address} does not say that it belongs to ${owner.container}`
          : `${directory}/${address} belongs to ${holder.container} ${holder.interfaceName}`,
      todo: "Two pods may get this address: delete this pod and let its runtime make it anew.",
    });
  }
}

/** What a garbage collection finds: reservations of owners that are not valid, and files that name nobody. */
export interface Garbage {
  readonly owner: AddressOwner | undefined;
  readonly addresses: readonly string[];
}

/** @param dryRun only say what would be given back */
export function collect(
  directory: string,
  isValid: (owner: AddressOwner) => boolean,
  dryRun = false,
): Garbage[] {
  using store = AddressStore.openExisting(directory);
  if (store === undefined) return [];
  const stale = store.reservations().filter(({ owner }) => !isValid(owner));
  const orphans = store.orphans();
  if (!dryRun) {
    for (const { owner, addresses } of stale) store.release(owner, addresses);
    for (const address of orphans) store.removeOrphan(address);
  }
  return [...stale, ...orphans.map((address) => ({ owner: undefined, addresses: [address] }))];
}

/**
 * Whether the next `assign` can succeed.
 * @throws WayoutError `no-address-left`, `address-store`
 */
export function status({ network, directory, sets }: HostLocalConfiguration): void {
  requireStore(directory);
  // Fewer files than addresses in the smallest set: each set has one left. Only otherwise is it worth a closer look.
  if (countFiles(directory) < leastRoom(sets)) return;
  using store = AddressStore.open(directory);
  const taken = store.occupied();
  const full = sets.find(
    (set) => BigInt(taken.filter((address) => rangeOf(set, address) !== undefined).length) >= capacityOf(set),
  );
  if (full !== undefined) throw noAddressLeft(network, full);
}

/** How many addresses even the smallest set can give away, or one less. */
function leastRoom(sets: readonly RangeSet[]): number {
  let least = Infinity;
  for (const set of sets) {
    let room = 0n;
    // The one that is left out may be the gateway's.
    for (const { first, last } of set) room += last - first;
    least = Math.min(least, Number(room));
  }
  return least;
}

function readDns(path: string | undefined): Dns {
  if (path === undefined) return {};
  try {
    return dnsOf(readRegular(path, MOST_SETTINGS_BYTES).text);
  } catch (error) {
    throw new WayoutError({
      code: "resolv-conf",
      kind: "usage",
      doing: "reading the file that ipam.resolvConf names",
      said: messageOf(error),
      cause: error,
    });
  }
}

function alreadyAttached(
  { network }: HostLocalConfiguration,
  owner: AddressOwner,
  held: readonly string[],
): WayoutError {
  return new WayoutError({
    code: "already-attached",
    kind: "usage",
    doing: `reserving an address of network ${network}`,
    said: `${owner.interfaceName} of container ${owner.container} holds ${held.join(" and ")} already`,
    todo: "Run DEL for this attachment before the next ADD.",
    details: { addresses: held },
  });
}

function addressTaken(directory: string, network: string, address: string): WayoutError {
  const holder = addressHolder(directory, address);
  return new WayoutError({
    code: "address-taken",
    kind: "usage",
    doing: `reserving the requested address ${address} of network ${network}`,
    said: holder === undefined ? "it is taken" : `it belongs to container ${holder.container}`,
    todo: "Ask for another address, or for none.",
  });
}

function noAddressLeft(network: string, set: RangeSet): WayoutError {
  return new WayoutError({
    code: "no-address-left",
    kind: "broken",
    doing: `reserving an address of network ${network}`,
    said: `all ${capacityOf(set)} addresses of ${rangeSetText(set)} are in use`,
    todo: "`wayout cni gc --dry-run` shows reservations whose pods are gone; otherwise the range is too small.",
  });
}
