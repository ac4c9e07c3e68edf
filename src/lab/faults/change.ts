/** Short hands for changing one namespace of the lab. */
import { NetlinkError } from "../../linux/netlink/netlink-error.ts";
import type { NetworkNamespace } from "../../kernel/namespace.ts";
import type { Transaction } from "../../linux/nftables/commands.ts";
import { Nftables } from "../../kernel/nftables/nftables.ts";
import { Rtnetlink } from "../../kernel/route/rtnetlink.ts";

/** With an rtnetlink connection into the namespace. */
export function within(namespace: NetworkNamespace, change: (route: Rtnetlink) => void): void {
  using route = Rtnetlink.open(namespace);
  change(route);
}

/** The same, where the kernel may say that it is so already, or gone. */
export function gently(namespace: NetworkNamespace, change: (route: Rtnetlink) => void): void {
  try {
    within(namespace, change);
  } catch (error) {
    if (!(error instanceof NetlinkError) || !["EEXIST", "ESRCH", "ENOENT", "ENODEV"].includes(error.code))
      throw error;
  }
}

export function indexOf(route: Rtnetlink, name: string): number {
  const link = route.link(name);
  if (link === undefined) throw new Error(`the lab has no interface ${name}`);
  return link.index;
}

/** Sets a link up again. Going down took its IPv6 address (and every route by it) away; IPv4's stay. */
export function raise(namespace: NetworkNamespace, name: string, ipv6: string, prefixLength: number): void {
  within(namespace, (route) => route.setLink(name, { up: true }));
  gently(namespace, (route) =>
    route.addAddress({ interface: indexOf(route, name), address: ipv6, prefixLength, nodad: true }),
  );
}

/** One transaction in the namespace's ruleset. */
export function changeRuleset(namespace: NetworkNamespace, doing: string, changes: Transaction): void {
  using nftables = Nftables.open(namespace);
  nftables.transaction(changes, doing);
}
