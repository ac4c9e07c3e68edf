/**
 * Which addresses may have left connections behind. Those of an earlier owner may still be tracked: their answers would
 * come to the new pod, and its packets would take the old translations. To look for them costs twenty milliseconds on a
 * quiet node and more on a busy one, even when the table is empty (the kernel walks a quarter of a million buckets one by
 * one). So a DEL only notes whose connections are still there, and one look forgets those of all of them: when an address
 * is given again, when many are left, or when nobody is attached any more. One file an address, in /run.
 */
import { addressOf } from "../address/ip.ts";
import { cidrContains, parseCidr } from "../address/cidr.ts";
import { WayoutError } from "../error.ts";
import { SystemError } from "../linux/errno.ts";
import {
  fileVersion,
  listDirectory,
  makeDirectory,
  makeFile,
  readTextIfThere,
  removeFile,
  writeText,
} from "../kernel/file.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { placeFailure } from "../kernel/own-place.ts";
import { readSysctl } from "../kernel/sysctl.ts";
import { usedPath } from "./network-lock.ts";

/** Among the addresses: that the table was searched for those of owners before us. */
const LOOKED = ".looked";
/** Among the addresses: those of one attachment, where only another plugin knows who has which. */
const OWN = ".of-";
/** Directory among the addresses: those that nobody has any more, and whose connections may still be tracked. */
const LEFT = ".left";
/** So many at most: a table shall not be filled by pods that are gone, nor a look at it be worth less than it costs. */
const MOST_LEFT = 32;

/**
 * Notes that these addresses are in use. Returns those that were noted already: they had an owner who did not end well.
 * @throws WayoutError `address-store`
 */
function noteUsed(network: string, namespace: NetworkNamespace, addresses: readonly string[]): string[] {
  return noting(network, namespace, addresses, () => {
    const before: string[] = [];
    for (const address of addresses) {
      if (!makeFile(`${usedPath(network, namespace)}/${address}`, 0o600)) before.push(address);
    }
    return before;
  });
}

function noting<T>(
  network: string,
  namespace: NetworkNamespace,
  addresses: readonly string[],
  note: () => T,
): T {
  try {
    makeDirectory(usedPath(network, namespace), 0o755);
    return note();
  } catch (error) {
    throw new WayoutError({
      code: "address-store",
      kind: "machine",
      doing: `noting ${addresses.join(" and ")} in ${usedPath(network, namespace)}`,
      ...placeFailure(
        usedPath(network, namespace),
        "directory",
        error,
        "Check that /run can be written by root and has room.",
      ),
      cause: error,
    });
  }
}

/** Where addresses of a network may be seen. */
export interface AddressSpace {
  readonly subnets: readonly string[];
  /** The node's own addresses among them, with prefix. */
  readonly gateways: readonly string[];
}

/**
 * Before a new pod gets these addresses: forgets what earlier owners left in the connection tracking table.
 * @throws WayoutError `address-store`
 */
export async function forgetEarlierOwners(
  network: string,
  space: AddressSpace,
  addresses: readonly string[],
  namespace: NetworkNamespace,
): Promise<void> {
  const isFirst = noteUsed(network, namespace, [LOOKED]).length === 0;
  const unclean = noteUsed(network, namespace, addresses);
  const left = leftDirectory(network, namespace);
  for (const address of addresses) {
    // Noted as in use by now: when we are killed half-way, that is left behind.
    if (fileVersion(`${left}/${address}`) === "") continue;
    removeFile(`${left}/${address}`);
    unclean.push(address);
  }
  if (isFirst) await lookForStrangers(network, space, addresses, namespace);
  else if (unclean.length > 0) await forgetLeft(network, namespace, unclean);
}

/** For this network's next call that ends these addresses: whose they are. */
export function noteOwner(
  network: string,
  namespace: NetworkNamespace,
  port: string,
  addresses: readonly string[],
): void {
  noting(network, namespace, addresses, () =>
    writeText(`${usedPath(network, namespace)}/${OWN}${port}`, addresses.join("\n"), "w", 0o600),
  );
}

/** What was noted of that owner. */
export function notedAddresses(
  network: string,
  namespace: NetworkNamespace,
  port: string,
): readonly string[] {
  return ifThere(() => readTextIfThere(`${usedPath(network, namespace)}/${OWN}${port}`) ?? "", "")
    .split("\n")
    .filter((text) => text !== "");
}

/** When a pod's link is gone, and before its addresses can be given to another pod. */
export async function endUse(
  network: string,
  port: string,
  addresses: readonly string[],
  namespace: NetworkNamespace,
): Promise<void> {
  if (addresses.length === 0) return;
  if (!noteLeft(network, namespace, addresses)) await forget(namespace, addresses);
  unmark(network, namespace, [...addresses, `${OWN}${port}`]);
  const left = namesIn(leftDirectory(network, namespace));
  if (left.length >= MOST_LEFT) await forgetLeft(network, namespace);
}

function leftDirectory(network: string, namespace: NetworkNamespace): string {
  return `${usedPath(network, namespace)}/${LEFT}`;
}

/** False where nothing can be noted: DEL must not fail for that. */
function noteLeft(network: string, namespace: NetworkNamespace, addresses: readonly string[]): boolean {
  const directory = leftDirectory(network, namespace);
  try {
    makeDirectory(directory, 0o755);
    for (const address of addresses) makeFile(`${directory}/${address}`, 0o600);
    return true;
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    return false;
  }
}

/** Forgets the connections of all whom a DEL has ended, and of these others, by one look at the table. */
async function forgetLeft(
  network: string,
  namespace: NetworkNamespace,
  others: readonly string[] = [],
): Promise<void> {
  const directory = leftDirectory(network, namespace);
  const left = namesIn(directory);
  const versions = left.map((name) => fileVersion(`${directory}/${name}`));
  await forget(namespace, [...new Set([...others, ...left])]);
  // A pod may have had an address, and left it again, since the table was looked at.
  const same = left.filter((name, at) => fileVersion(`${directory}/${name}`) === versions[at]);
  unmark(
    network,
    namespace,
    same.map((name) => `${LEFT}/${name}`),
  );
}

/** When nobody is attached any more: an owner that is still noted did not end well. */
export async function endAllUse(network: string, namespace: NetworkNamespace): Promise<void> {
  const names = namesIn(usedPath(network, namespace)).filter((name) => name !== LEFT);
  const inUse = names.filter((name) => !name.startsWith("."));
  if (inUse.length + namesIn(leftDirectory(network, namespace)).length > 0)
    await forgetLeft(network, namespace, inUse);
  unmark(
    network,
    namespace,
    names.filter((name) => name !== LOOKED),
  );
}

/** Of addresses that were noted by an ADD that failed. */
export function unmark(network: string, namespace: NetworkNamespace, names: readonly string[]): void {
  for (const name of names) {
    try {
      removeFile(`${usedPath(network, namespace)}/${name}`);
    } catch (error) {
      // On a read-only /run the note stays, and the next ADD looks once more: DEL must not fail for that.
      if (!(error instanceof SystemError)) throw error;
    }
  }
}

function namesIn(directory: string): string[] {
  return ifThere(() => listDirectory(directory), []);
}

/** Where something else stands in its place nothing is noted, and a DEL must not fail for that. */
function ifThere<T>(read: () => T, otherwise: T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof SystemError && ["ENOENT", "ENOTDIR", "ELOOP"].includes(error.code)) return otherwise;
    throw error;
  }
}

async function forget(namespace: NetworkNamespace, addresses: readonly string[]): Promise<void> {
  if (isNothingTracked()) return;
  const { forgetFlowsOf } = await import("../flows/forget.ts");
  forgetFlowsOf(namespace, addresses);
}

function isNothingTracked(): boolean {
  return (readSysctl(undefined, "net.netfilter.nf_conntrack_count") ?? "0") === "0";
}

/** Another plugin may have served this network until now: an owner of connections had an address, and may still have it. */
async function lookForStrangers(
  network: string,
  { subnets, gateways }: AddressSpace,
  addresses: readonly string[],
  namespace: NetworkNamespace,
): Promise<void> {
  if (isNothingTracked()) return;
  await forget(namespace, addresses);
  const { Conntrack } = await import("../kernel/conntrack/conntrack.ts");
  using conntrack = Conntrack.open(namespace);
  const cidrs = subnets.map((subnet) => parseCidr(subnet));
  const own = gateways.map((text) => addressOf(text));
  const seen = new Set<string>();
  conntrack.visit(({ original, reply }) => {
    for (const { source } of [original, reply]) {
      if (!own.includes(source) && cidrs.some((cidr) => cidrContains(cidr, source))) seen.add(source);
    }
  });
  noteUsed(network, namespace, [...seen]);
}
