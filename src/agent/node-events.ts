/** What the kernel announces of the node: rules, links, addresses, routes, policy rules, forwarding. */
import { EventThread } from "../kernel/netlink/event-thread.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { NETLINK_NETFILTER, NETLINK_ROUTE } from "../kernel/netlink/transport.ts";
import { RTNLGRP } from "../kernel/route/watch.ts";
import { decode, readMessages } from "../linux/netlink/message.ts";
import { NFT_MSG_NEWGEN } from "../linux/nftables/generation.ts";
import { NFNLGRP_NFTABLES } from "../linux/nftables/messages.ts";

/** RTM_NEWNETCONF (include/uapi/linux/rtnetlink.h): forwarding or rp_filter was switched. */
const RTM_NEWNETCONF = 80;

export type NodeEvent =
  /** A transaction of nf_tables, with the process that made it as the kernel names it. */
  | { readonly kind: "rules"; readonly generation: number; readonly pid?: number; readonly process?: string }
  /** Links, addresses, routes or policy rules. */
  | { readonly kind: "network" }
  /** A switch under /proc/sys/net/…/conf. */
  | { readonly kind: "setting" }
  /** Events were lost: everything may have changed. */
  | { readonly kind: "lost" };

/** Listens until it is closed. Every event is handed over once, in the order in which its socket had it. */
export class NodeEvents {
  readonly #threads: readonly EventThread[];

  /** @throws SystemError EPERM without privilege over the namespace */
  constructor(namespace: NetworkNamespace, each: (event: NodeEvent) => void) {
    const lost = (): void => each({ kind: "lost" });
    const groups = [
      ...RTNLGRP.links,
      ...RTNLGRP.addresses,
      ...RTNLGRP.routes,
      ...RTNLGRP.rules,
      ...RTNLGRP.settings,
    ];
    this.#threads = [
      new EventThread(NETLINK_NETFILTER, {
        namespace,
        groups: [NFNLGRP_NFTABLES],
        each: (datagram) => generationsIn(datagram).forEach(each),
        lost,
      }),
      new EventThread(NETLINK_ROUTE, {
        namespace,
        groups,
        each: (datagram) => routeEventsIn(datagram).forEach(each),
        lost,
      }),
    ];
  }

  async close(): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.close()));
  }
}

/** Of a transaction's many messages only the last, which ends it, is an event. */
function generationsIn(datagram: Uint8Array): NodeEvent[] {
  return readMessages(datagram)
    .filter(({ type }) => type === NFT_MSG_NEWGEN.type)
    .map((raw): NodeEvent => {
      const { id = 0, pid, name } = decode(NFT_MSG_NEWGEN, raw).attributes;
      return {
        kind: "rules",
        generation: id,
        ...(pid === undefined ? {} : { pid }),
        ...(name === undefined ? {} : { process: name }),
      };
    });
}

function routeEventsIn(datagram: Uint8Array): NodeEvent[] {
  const kinds = new Set(
    readMessages(datagram).map(({ type }) => (type === RTM_NEWNETCONF ? "setting" : "network")),
  );
  return [...kinds].map((kind): NodeEvent => ({ kind }));
}
