/** Addresses that a network's other hosts ask for by ARP or neighbour discovery: does this node answer for them? */
import { cidrContains, cidrOf, cidrText } from "../../address/cidr.ts";
import type { Link } from "../../linux/route/link.ts";
import type { NodeView } from "./view.ts";

/** The prefix of one of the link's own networks that holds the address, so that its neighbours ask for it there. */
export function onLinkPrefix(view: NodeView, link: Link, address: string): string | undefined {
  const family = address.includes(":") ? 6 : 4;
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
  const family = address.includes(":") ? 6 : 4;
  const setting = family === 4 ? "proxy_arp" : "proxy_ndp";
  const all = view.sysctl(`net.ipv${family}.conf.all.${setting}`) === 1;
  const on = all || view.conf(family, link.name, setting) === 1;
  const { proxies } = view.state;
  const single =
    proxies === undefined || proxies.some((one) => one.address === address && one.interface === link.index);
  if (family === 6) return on && single;
  const way = view.fib.predict({ destination: address });
  const elsewhere = way.kind === "route" && way.type === "unicast" && way.link.index !== link.index;
  return elsewhere && (on || single);
}
