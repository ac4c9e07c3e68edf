/** Whether iptables-legacy has changed: of that the kernel announces nothing. */
import type { NetworkNamespace } from "../namespace.ts";
import { clearCounters } from "../../linux/iptables-legacy/entries.ts";
import { readLegacyBlocks } from "./iptables-legacy.ts";
import { legacyTableNames } from "./table-names.ts";

/**
 * A number that changes with every change of any iptables-legacy rule, and not with counters; undefined where there are no
 * such tables.
 * @throws SystemError EPERM without privilege over the namespace
 */
export function legacyFingerprint(namespace: NetworkNamespace): bigint | undefined {
  let sum: bigint | undefined;
  for (const family of ["ip", "ip6"] as const) {
    for (const { name, entries } of readLegacyBlocks(
      family,
      legacyTableNames(family, namespace).sort(),
      namespace,
    )) {
      clearCounters(family, entries);
      sum = Bun.hash(entries, sum ?? 0n) ^ Bun.hash(`${family} ${name}`);
    }
  }
  return sum;
}
