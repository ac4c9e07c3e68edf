/**
 * Which addresses had an owner since the node was started. Connections of an earlier owner may still be tracked: their
 * answers would come to the new pod, and its packets would take the old translations. Looking through the table for
 * them costs milliseconds even when it is empty (its buckets are walked one by one), so only an address that was used
 * before is looked for. One empty file an address, in /run.
 */
import { cidrContains, parseCidr } from "../address/cidr.ts";
import { messageOf, WayoutError } from "../error.ts";
import { makeDirectory, makeFile } from "../kernel/file.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { readSysctl } from "../kernel/sysctl.ts";
import { RUN_DIRECTORY } from "./network-lock.ts";

/** Among the addresses: that the table was searched for those of owners before us. */
const LOOKED = ".looked";

function directoryOf(network: string): string {
  return `${RUN_DIRECTORY}/${network}.used`;
}

/**
 * Notes that these addresses are, or were, somebody's. Returns those that had been noted before.
 * @throws WayoutError `address-store`
 */
export function noteUsed(network: string, addresses: readonly string[]): string[] {
  if (addresses.length === 0) return [];
  try {
    makeDirectory(directoryOf(network), 0o755);
    const before: string[] = [];
    for (const address of addresses) {
      if (!makeFile(`${directoryOf(network)}/${address}`, 0o600)) before.push(address);
    }
    return before;
  } catch (error) {
    throw new WayoutError({
      code: "address-store",
      kind: "machine",
      doing: `noting ${addresses.join(" and ")} in ${directoryOf(network)}`,
      said: messageOf(error),
      todo: "Check that /run can be written by root and has room.",
      cause: error,
    });
  }
}

/** Before new pods get these addresses: forgets what earlier owners left in the connection tracking table. */
export async function forgetEarlierOwners(
  network: string,
  subnets: readonly string[],
  addresses: readonly string[],
  namespace: NetworkNamespace,
): Promise<void> {
  const isFirst = noteUsed(network, [LOOKED]).length === 0;
  const used = noteUsed(network, addresses);
  const suspects = isFirst ? addresses : used;
  if (suspects.length === 0) return;
  const tracked = readSysctl(undefined, "net.netfilter.nf_conntrack_count");
  if (tracked === undefined || tracked === "0") return;
  const { Conntrack } = await import("../kernel/conntrack/conntrack.ts");
  using conntrack = Conntrack.open(namespace);
  for (const address of suspects) {
    conntrack.flush({ original: { source: address } });
    // A published port: the pod is who answers.
    conntrack.flush({ reply: { source: address } });
  }
  if (!isFirst) return;
  // Another plugin may have served this network until now: whoever has connections had an address.
  const cidrs = subnets.map((subnet) => parseCidr(subnet));
  const seen = new Set<string>();
  conntrack.visit(({ original, reply }) => {
    for (const { source } of [original, reply]) {
      if (cidrs.some((cidr) => cidrContains(cidr, source))) seen.add(source);
    }
  });
  noteUsed(network, [...seen]);
}
