/** As whom a pod is seen outside: which address its packets have when they leave the node. */
import { cidrContains, parseCidr } from "../address/cidr.ts";
import { ipFamily, type IpFamily } from "../address/ip.ts";
import type { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import type { LinkState } from "../linux/route/link-state.ts";
import type { NatIntent, NatSource } from "../nat/intent.ts";
import type { LinkTranslation } from "../nat/backends/link-translation.ts";
import { counts } from "../nat/segment.ts";
import { present } from "../present.ts";

/** Somewhere outside that nobody has (RFC 5737, RFC 3849): only the way there is asked for, nothing is sent. */
const ELSEWHERE: Readonly<Record<IpFamily, string>> = { 4: "192.0.2.1", 6: "2001:db8::1" };

export interface Outside {
  readonly translation: "masquerade" | "snat" | "none";
  /** The interface that packets leave by; absent when the node has no way out itself. */
  readonly interface?: string;
  /** The source they leave with; absent when that is not known. */
  readonly address?: string;
  /** Translated by programs of ours at the interface, not by a rule. */
  readonly byPrograms?: true;
}

/** The same, with whether it is programs that translate there. */
export function withPrograms(
  outside: Outside,
  address: string,
  atLinks: LinkTranslation | undefined,
): Outside {
  const isTheirs =
    atLinks?.egress.includes(outside.interface ?? "") === true &&
    sourceOf(address, atLinks.intents, undefined) !== undefined;
  return isTheirs && outside.translation !== "none" ? { ...outside, byPrograms: true } : outside;
}

/**
 * @param address the pod's, without prefix
 * @param intents what everybody on the node wants of NAT
 * @param entrances by one of which the pod's packets come to the node; absent: not known
 */
export function outsideOf(
  node: Rtnetlink,
  address: string,
  intents: readonly NatIntent[],
  entrances?: readonly string[],
): Outside {
  const family = ipFamily(address);
  const exit = exitsOf(node, [family]).get(family);
  const index = exit?.index;
  const name = exit?.name;
  const way = present({ interface: name });
  const source = sourceOf(address, intents, entrances);
  if (source === undefined)
    return { translation: "none", ...way, ...present({ address: name === undefined ? undefined : address }) };
  const { snat } = source.translation;
  if (snat !== undefined) {
    const seen = snat.first === snat.last ? snat.first : `${snat.first}-${snat.last}`;
    return { translation: "snat", ...way, address: seen };
  }
  if (index === undefined) return { translation: "masquerade" };
  // What masquerade takes: the first address of the interface that is neither secondary nor of the link alone
  // (inet_select_addr in net/ipv4/devinet.c), whatever source the route itself prefers.
  const own = node
    .addresses({ family, interface: index })
    .find(({ scope, flags }) => scope === "global" && !flags.includes("secondary"));
  return {
    translation: "masquerade",
    ...way,
    ...present({ address: own?.address }),
  };
}

/** By which link packets leave for elsewhere, a family each; nothing for one that leads nowhere. */
export function exitsOf(node: Rtnetlink, families: readonly IpFamily[]): ReadonlyMap<IpFamily, LinkState> {
  const exits = new Map<IpFamily, LinkState>();
  for (const family of families) {
    const answer = node.routeTo({ destination: ELSEWHERE[family] });
    const index = answer.reachable ? answer.route.interface : undefined;
    const link = index === undefined ? undefined : node.linkState(index);
    if (link !== undefined) exits.set(family, link);
  }
  return exits;
}

/** The most specific source decides; intents come sorted by owner, and the first of equals wins (see NatIntent). */
function sourceOf(
  address: string,
  intents: readonly NatIntent[],
  entrances: readonly string[] | undefined,
): NatSource | undefined {
  let best: NatSource | undefined;
  let length = -1;
  for (const source of intents.flatMap(({ sources }) => sources)) {
    const cidr = parseCidr(source.cidr);
    if (source.fromNode === true || cidr.prefixLength <= length || !cidrContains(cidr, address)) continue;
    if (entrances?.some((name) => counts(source, name)) === false) continue;
    best = source;
    length = cidr.prefixLength;
  }
  return best;
}
