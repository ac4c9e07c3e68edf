/** The source address that the kernel gives to what names none: inet_select_addr for IPv4, RFC 6724 for IPv6. */
import { cidrContains, cidrOf, parseCidr, type Cidr } from "../../address/cidr.ts";
import { familyOf, ipNumber, ipBits } from "../../address/ip.ts";
import {
  isLinkLocalAddress,
  isLoopbackAddress,
  isMulticastAddress,
  isSiteLocalAddress,
  isUniqueLocalAddress,
  LOOPBACK,
  SITE_LOCAL,
  UNIQUE_LOCAL,
} from "../../address/special-purpose.ts";
import type { Address } from "../../linux/route/address.ts";
import type { Link } from "../../linux/route/link.ts";
import type { NodeView } from "./view.ts";

/** What was chosen, and what speaks against it. */
export interface SourceChoice {
  readonly address: Address;
  /** Its preferred lifetime is over: new connections use it only for want of another. */
  readonly deprecated: boolean;
  /** A unique local address (fc00::/7) for a destination that is none: only a translation brings an answer back. */
  readonly local: boolean;
}

/** @param nextHop the gateway, else the destination: IPv4 prefers the address that faces it */
export function chooseSource(
  view: NodeView,
  link: Link,
  destination: string,
  nextHop: string,
): SourceChoice | undefined {
  const address =
    familyOf(destination) === 6 ? chooseIpv6(view, link, destination) : chooseIpv4(view, link, nextHop);
  if (address === undefined) return undefined;
  return {
    address,
    deprecated: address.flags.includes("deprecated"),
    local:
      isUniqueLocalAddress(address.address) &&
      !isUniqueLocalAddress(destination) &&
      !isLinkLocalAddress(destination),
  };
}

function chooseIpv4(view: NodeView, link: Link, nextHop: string): Address | undefined {
  const primary = view.state.addresses.filter((one) => one.family === 4 && !one.flags.includes("secondary"));
  const own = primary.filter((one) => one.interface === link.index);
  return (
    own.find((one) => cidrContains(cidrOf(one.address, one.prefixLength), nextHop)) ??
    own[0] ??
    // The first of any other interface that is known beyond it.
    primary.find((one) => one.scope === "global")
  );
}

/** The kernel's table of labels (ip addrlabel; net/ipv6/addrlabel.c), the longest prefix first. */
const LABELS: readonly (readonly [prefix: Cidr, label: number])[] = (
  [
    [LOOPBACK[6], 0],
    ["::ffff:0:0/96", 4],
    ["::/96", 3],
    ["2001::/32", 6],
    ["2001:10::/28", 7],
    ["3ffe::/16", 12],
    ["2002::/16", 2],
    [SITE_LOCAL, 11],
    [UNIQUE_LOCAL, 5],
    ["::/0", 1],
  ] as const
).map(([prefix, label]) => [parseCidr(prefix), label]);

function labelOf(address: string): number {
  return LABELS.find(([prefix]) => cidrContains(prefix, address))?.[1] ?? 1;
}

/** Interface-local 1, link-local 2, site-local 5, global 14. */
function scopeOf(address: string): number {
  if (isMulticastAddress(address)) return Number.parseInt(address[3] ?? "e", 16);
  if (isLinkLocalAddress(address) || isLoopbackAddress(address)) return 2;
  return isSiteLocalAddress(address) ? 5 : 14;
}

/** ipv6_get_saddr_eval: the rules in order; the first that tells two addresses apart decides. Any link's are asked. */
export function chooseIpv6(view: NodeView, link: Link, destination: string): Address | undefined {
  const usable = view.state.addresses.filter(
    (one) => one.family === 6 && !one.flags.includes("tentative") && !one.flags.includes("dadfailed"),
  );
  const wanted = scopeOf(destination);
  const prefersTemporary = (view.conf(6, link.name, "use_tempaddr") ?? 0) >= 2;
  const marks = (one: Address): readonly number[] => {
    const scope = scopeOf(one.address);
    return [
      Number(one.address === destination),
      // The smallest scope that is large enough; of those too small the largest.
      scope >= wanted ? -scope : scope - 128,
      Number(!one.flags.includes("deprecated") && !one.flags.includes("optimistic")),
      Number(one.interface === link.index),
      Number(labelOf(one.address) === labelOf(destination)),
      Number(one.flags.includes("temporary") === prefersTemporary),
      Math.min(commonBits(one.address, destination), one.prefixLength),
    ];
  };
  return usable.toSorted((a, b) => compareNumbers(marks(b), marks(a)))[0];
}

function compareNumbers(a: readonly number[], b: readonly number[]): number {
  for (const [at, mark] of a.entries()) {
    const difference = mark - b[at]!;
    if (difference !== 0) return difference;
  }
  return 0;
}

export function commonBits(a: string, b: string): number {
  if (familyOf(a) !== familyOf(b)) return 0;
  const difference = ipNumber(a) ^ ipNumber(b);
  const bits = ipBits(familyOf(a));
  return difference === 0n ? bits : bits - difference.toString(2).length;
}
