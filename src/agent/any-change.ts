/**
 * That something changed at all: here, or in a namespace at the other end of one of our veth pairs, which is where pods live.
 * What and where is not asked: who hears of it looks at the whole node.
 */
import { EventThread } from "../kernel/netlink/event-thread.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { NETLINK_NETFILTER, NETLINK_ROUTE } from "../kernel/netlink/transport.ts";
import { RTNLGRP } from "../kernel/route/watch.ts";
import { NFNLGRP_NFTABLES } from "../linux/nftables/messages.ts";

const AT_MOST_EVERY_MS = 100;
/** Longer than that: what was left out does not come later than its announcement. */
const TOLD_AFTER_MS = 150;

export class AnyChange {
  readonly #threads: readonly EventThread[];
  #telling: ReturnType<typeof setTimeout> | undefined;

  /** @throws SystemError EPERM without privilege over the namespace */
  constructor(namespace: NetworkNamespace, changed: () => void) {
    const soon = (): void => {
      this.#telling ??= setTimeout(() => {
        this.#telling = undefined;
        changed();
      }, TOLD_AFTER_MS);
    };
    const { links, addresses, routes, rules, settings } = RTNLGRP;
    const listen = (protocol: number, groups: readonly number[]): EventThread =>
      new EventThread(protocol, {
        namespace,
        groups,
        elsewhereToo: true,
        atMostEveryMs: AT_MOST_EVERY_MS,
        each: soon,
        lost: soon,
      });
    this.#threads = [
      listen(NETLINK_ROUTE, [...links, ...addresses, ...routes, ...rules, ...settings]),
      listen(NETLINK_NETFILTER, [NFNLGRP_NFTABLES]),
    ];
  }

  async close(): Promise<void> {
    clearTimeout(this.#telling);
    await Promise.all(this.#threads.map((thread) => thread.close()));
  }
}
