/** Tells that something in namespaces has changed, without reading what: links, addresses, routes, rules, the ruleset. */
import { NETLINK_NETFILTER, openTransport } from "../kernel/netlink/transport.ts";
import { NetlinkConnection } from "../kernel/netlink/connection.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { rulesetGeneration } from "../kernel/nftables/generation.ts";
import { RouteWatch } from "../kernel/route/watch.ts";

/** One namespace's. Settings under /proc/sys announce nothing, and are no part of it. */
export class ChangeWatch implements Disposable {
  readonly #route: RouteWatch;
  readonly #netfilter: NetlinkConnection;
  #generation: number | undefined;

  constructor(namespace: NetworkNamespace) {
    this.#route = RouteWatch.open(namespace, ["links", "addresses", "routes", "rules"]);
    this.#netfilter = new NetlinkConnection(openTransport(NETLINK_NETFILTER, { namespace }));
    this.#generation = this.#ask();
  }

  /** Whether anything has changed since the last call. Never waits. */
  changed(): boolean {
    let changed = false;
    while (this.#route.next(0).length > 0) changed = true;
    const generation = this.#ask();
    if (generation !== this.#generation) changed = true;
    this.#generation = generation;
    return changed;
  }

  close(): void {
    this.#route.close();
    this.#netfilter.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** The kernel counts every transaction; undefined on one without nf_tables. */
  #ask(): number | undefined {
    try {
      return rulesetGeneration(this.#netfilter);
    } catch {
      return undefined;
    }
  }
}
