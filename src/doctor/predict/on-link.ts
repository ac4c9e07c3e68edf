/** Addresses that a network's other hosts ask for by ARP or neighbour discovery: does this node answer for them? */
import { familyOf } from "../../address/ip.ts";
import { cidrContains, cidrOf, cidrText } from "../../address/cidr.ts";
import type { Link } from "../../linux/route/link.ts";
import type { NodeView } from "./view.ts";

/** The prefix of one of the link's own networks that holds the address, so that its neighbours ask for it there. */
export function onLinkPrefix(view: NodeView, link: Link, address: string): string | undefined {
  const family = familyOf(address);
  for (const one of view.state.addresses) {
    if (one.interface !== link.index || one.family !== family || one.scope !== "global") continue;
    const network = cidrOf(one.address, one.prefixLength);
    if (cidrContains(network, address)) return cidrText(network);
  }
  return undefined;
}

/**
 * Whether the node answers on a link for an address that is not its own: arp_process, ndisc_recv_ns. It does for what
 * it would forward to another link, with proxy_arp for all of it or for single addresses (`ip neigh add proxy`).
 */
export function isAnsweredFor(view: NodeView, link: Link, address: string): boolean {
  const family = familyOf(address);
  const setting = family === 4 ? "proxy_arp" : "proxy_ndp";
  const all = view.sysctl(`net.ipv${family}.conf.all.${setting}`) === 1;
  const on = all || view.conf(family, link.name, setting) === 1;
  const { proxies } = view.state;
  const single =
    proxies === undefined || proxies.some((one) => one.address === address && one.interface === link.index);
  if (family === 6) return on && single;
  const way = view.fib.predict({ destination: address });
  if (way.kind !== "route" || way.type !== "unicast") return false;
  // A private VLAN keeps neighbours of one link apart: the node answers for them there (arp_fwd_pvlan).
  if (way.link.index === link.index) return view.conf(4, link.name, "proxy_arp_pvlan") === 1;
  return on || single;
}

export interface Silence {
  readonly sysctl: string;
  readonly value: number;
  /** The link that has the address. */
  readonly holder: string;
}

/**
 * The node has the address, and a setting forbids to say so on this link: arp_ignore, and inet_confirm_addr. IPv6 has no
 * such setting.
 */
export function silencedBy(view: NodeView, link: Link, address: string, asker: string): Silence | undefined {
  if (familyOf(address) === 6) return undefined;
  const all = view.sysctl("net.ipv4.conf.all.arp_ignore") ?? 0;
  const own = view.conf(4, link.name, "arp_ignore") ?? 0;
  const value = Math.max(all, own);
  const held = view.state.addresses.filter((one) => one.address === address);
  const [first] = held;
  if (value === 0 || first === undefined) return undefined;
  const here = held.filter((one) => one.interface === link.index);
  const answers =
    value === 1
      ? here.length > 0
      : value === 2
        ? here.some((one) => cidrContains(cidrOf(one.address, one.prefixLength), asker))
        : value === 3
          ? held.some((one) => one.scope !== "host")
          : value !== 8;
  if (answers) return undefined;
  const which = own >= all ? link.name : "all";
  return {
    sysctl: `net.ipv4.conf.${which}.arp_ignore`,
    value,
    holder: view.linkAt((here[0] ?? first).interface)?.name ?? "another link",
  };
}
