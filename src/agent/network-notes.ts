/**
 * What of the kernel's announcements is worth a line in the journal: default routes, policy rules, the addresses and states
 * of the links that lead out, forwarding and rp_filter. Pods come and go with links of their own; of those nothing is noted.
 *
 * The kernel announces as new what was only refreshed, so what is there already is remembered.
 */
import { addressOf } from "../address/ip.ts";
import { isLinkLocalAddress } from "../address/special-purpose.ts";
import { isDefaultRoute, routeText } from "../doctor/predict/fib.ts";
import { policyRuleText } from "../doctor/predict/rule-selector.ts";
import type { RouteEvent } from "../kernel/route/watch.ts";
import type { Address } from "../linux/route/address.ts";
import type { Link } from "../linux/route/link.ts";
import { NETCONFA_IFINDEX_ALL, type TurnedSetting } from "../linux/route/netconf.ts";
import type { Route } from "../linux/route/route.ts";

export interface NetworkNote {
  /** `default route`, `address 203.0.113.5/24 on eth0`, `link eth0`, `bridge wayout0`, `net.ipv4.ip_forward`. */
  readonly object: string;
  readonly text: string;
  /** Something is there, or on, again. */
  readonly there: boolean;
}

/** What is there. */
export interface NotedNetwork {
  readonly links: readonly Link[];
  readonly addresses: readonly Address[];
  readonly routes: readonly Route[];
}

export class NetworkNotes {
  readonly #links = new Map<number, Link>();
  readonly #addresses = new Set<string>();
  /** Default routes as text, with the interfaces they use. */
  readonly #defaults = new Map<string, readonly number[]>();
  /** Links that lead out, or did. */
  readonly #uplinks = new Set<number>();
  /** Switches as they were last told. */
  readonly #turned = new Map<string, number>();

  /** @param read what is there at this moment */
  constructor(private readonly read: () => NotedNetwork) {
    this.renew();
  }

  /** Begins with what is there now: events were lost. */
  renew(): void {
    const { links, addresses, routes } = this.read();
    for (const known of [this.#links, this.#addresses, this.#defaults, this.#turned]) known.clear();
    for (const link of links) this.#links.set(link.index, link);
    for (const address of addresses) this.#addresses.add(addressKey(address));
    for (const route of routes) if (isDefaultRoute(route)) this.#know(route);
  }

  /** What leads out, as it is now: default routes, and the links that are no pod's with their addresses. */
  facts(): string[] {
    const links = [...this.#links.values()].filter((link) => this.#matters(link));
    const named = new Map(links.map((link) => [link.index, link.name]));
    const addresses = [...this.#addresses].flatMap((key) => {
      const [index = "", text = ""] = key.split(" ");
      const name = named.get(Number(index));
      return name === undefined || isLinkLocalAddress(addressOf(text))
        ? []
        : [`the address ${text} on ${name}`];
    });
    return [
      ...[...this.#defaults.keys()].map((text) => `the ${text}`),
      ...links.map(({ name, up }) => `the link ${name} (${up ? "up" : "down"})`),
      ...addresses,
    ].sort();
  }

  of(event: RouteEvent): NetworkNote[] {
    switch (event.kind) {
      case "link":
        return this.#link(event.link, event.gone);
      case "address":
        return this.#address(event.address, event.gone);
      case "route":
        return this.#route(event.route, event.gone);
      case "rule": {
        const text = policyRuleText(event.rule);
        return [
          {
            object: "rule",
            text: `the rule "${text}" is ${event.gone ? "gone" : "there"} now`,
            there: !event.gone,
          },
        ];
      }
      case "neighbour":
      case "lost":
        return [];
    }
  }

  setting({ family, interface: index, setting, value }: TurnedSetting): NetworkNote[] {
    const there = setting === "forwarding" && value !== 0;
    const note = (object: string): NetworkNote[] => [{ object, text: `${object} is ${value} now`, there }];
    const key = (which: number): string => `${family} ${setting} ${which}`;
    if (index === NETCONFA_IFINDEX_ALL) {
      if (setting === "rp_filter") return note(`net.ipv${family}.conf.all.rp_filter`);
      // It turns the switch of every interface, each of which is announced as well.
      for (const link of this.#links.keys()) this.#turned.set(key(link), value);
      return note(family === 4 ? "net.ipv4.ip_forward" : "net.ipv6.conf.all.forwarding");
    }
    const link = this.#links.get(index);
    if (link === undefined || !this.#matters(link) || this.#turned.get(key(index)) === value) return [];
    this.#turned.set(key(index), value);
    return note(`net.ipv${family}.conf.${link.name}.${setting}`);
  }

  #link(link: Link, gone: boolean): NetworkNote[] {
    const before = this.#links.get(link.index);
    const matters = this.#matters(link);
    if (gone) {
      this.#links.delete(link.index);
      this.#uplinks.delete(link.index);
    } else this.#links.set(link.index, link);
    // IPv4 routes go with their link, and the kernel says nothing of them.
    if (gone || !link.up) this.#forgetRoutesOf(link.index);
    if (!matters) return [];
    const object = `${link.kind === "bridge" ? "bridge" : "link"} ${link.name}`;
    const said = (text: string, there: boolean): NetworkNote[] => [
      { object, text: `${link.name} ${text}`, there },
    ];
    if (gone) return said("is gone", false);
    if (before === undefined) return said("is there now", true);
    if (before.name !== link.name) return said(`is the new name of ${before.name}`, true);
    if (before.up !== link.up) return said(link.up ? "is up now" : "is down now", link.up);
    return [];
  }

  #address(address: Address, gone: boolean): NetworkNote[] {
    const key = addressKey(address);
    const isNews = gone ? this.#addresses.delete(key) : !this.#addresses.has(key);
    if (!gone) this.#addresses.add(key);
    const link = this.#links.get(address.interface);
    if (!isNews || link === undefined || !this.#matters(link) || address.scope === "link") return [];
    const text = `${address.address}/${address.prefixLength}`;
    return [
      {
        object: `address ${text} on ${link.name}`,
        text: `${text} is ${gone ? "no more" : "now"} on ${link.name}`,
        there: !gone,
      },
    ];
  }

  #route(route: Route, gone: boolean): NetworkNote[] {
    if (!isDefaultRoute(route)) return [];
    const text = this.#routeText(route);
    const isNews = gone ? this.#defaults.delete(text) : !this.#defaults.has(text);
    if (!gone) this.#know(route);
    if (!isNews) return [];
    return [
      {
        object: "default route",
        text: `the ${text} is ${gone ? "gone" : "there"} now`,
        there: !gone,
      },
    ];
  }

  /** Links that lead out, and those that are no pod's: a pod's end of a pair is a veth. */
  #matters({ index, kind, name }: Link): boolean {
    if (name === "lo") return false;
    return kind !== "veth" || this.#uplinks.has(index);
  }

  #know(route: Route): void {
    const used = usedBy(route);
    this.#defaults.set(this.#routeText(route), used);
    for (const index of used) this.#uplinks.add(index);
  }

  #forgetRoutesOf(index: number): void {
    for (const [text, used] of this.#defaults)
      if (used.includes(index) && text.startsWith("IPv4")) this.#defaults.delete(text);
  }

  #routeText(route: Route): string {
    return `IPv${route.family} route "${routeText(route, [...this.#links.values()])}"`;
  }
}

function addressKey({ interface: index, address, prefixLength }: Address): string {
  return `${index} ${address}/${prefixLength}`;
}

function usedBy({ interface: index, nextHops }: Route): readonly number[] {
  const all = [index, ...(nextHops ?? []).map((hop) => hop.interface)];
  return all.filter((one) => one !== undefined);
}
