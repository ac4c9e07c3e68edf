import { Conntrack } from "../kernel/conntrack/conntrack.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { readSysctl } from "../kernel/sysctl.ts";
import { familyOf, ipNumber } from "../address/ip.ts";
import type { ConntrackEntry } from "../linux/conntrack/entry.ts";
import type { TupleScan } from "../linux/conntrack/scan.ts";

/**
 * Up to so many entries for each address one look at all of them costs less than two at those that the kernel selects for
 * it: it walks its buckets, a quarter of a million as a rule, each time.
 */
const FEW_ENTRIES = 8192;

/**
 * Forgets every connection of these addresses: those that they began, and those in which they are who answers, as with
 * a published port. Where nothing is tracked, nobody looks.
 */
export function forgetFlowsOf(namespace: NetworkNamespace, addresses: readonly string[]): void {
  const count = Number(readSysctl(namespace, "net.netfilter.nf_conntrack_count") ?? 0);
  if (count === 0 || addresses.length === 0) return;
  using conntrack = Conntrack.open(namespace);
  if (count > FEW_ENTRIES * addresses.length) {
    for (const address of addresses) {
      conntrack.flush({ original: { source: address } });
      conntrack.flush({ reply: { source: address } });
    }
    return;
  }
  const found: ConntrackEntry[] = [];
  const numbers: number[] = [];
  for (const address of addresses) if (familyOf(address) === 4) numbers.push(Number(ipNumber(address)));
  const hasIpv6 = numbers.length < addresses.length;
  conntrack.scan((scan) => {
    const { view } = scan.wire;
    const concerns = ({ source }: TupleScan): boolean => numbers.includes(view.getUint32(source, false));
    if (scan.family === 6 ? !hasIpv6 : !concerns(scan.original) && !concerns(scan.reply)) return;
    const entry = scan.entry();
    if (addresses.includes(entry.original.source) || addresses.includes(entry.reply.source))
      found.push(entry);
  });
  if (found.length > 0) conntrack.deleteEntries(found);
}
