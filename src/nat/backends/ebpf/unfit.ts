/**
 * Where translation at the links would break what rules achieve behind or before them, and so is refused. What arrives is
 * translated back before any rule sees it, and what leaves is translated behind the look for IPsec policies:
 *
 * - a rule before the place where nf_nat translates back (priority -100) sees the pod's address, where it saw the node's:
 *   Docker's raw table and lists of bogons drop by that;
 * - a policy of IPsec for the address that we translate to is not asked, and packets would leave in clear.
 */
import { cidrsOverlap, parseCidr, prefixContains } from "../../../address/cidr.ts";
import { ipBits, ipFamily, ipFromNumber, ipNumber, isIp, type IpFamily } from "../../../address/ip.ts";
import { WayoutError } from "../../../error.ts";
import { readLegacyTables } from "../../../kernel/iptables-legacy/iptables-legacy.ts";
import { ipsetNames, listIpsets, type Ipset } from "../../../kernel/ipset/ipset.ts";
import { Nftables } from "../../../kernel/nftables/nftables.ts";
import { Rtnetlink } from "../../../kernel/route/rtnetlink.ts";
import { readIpsec } from "../../../kernel/ipsec.ts";
import { NETLINK_XFRM, openTransport, type NetlinkTransport } from "../../../kernel/netlink/transport.ts";
import { readSysctl } from "../../../kernel/sysctl.ts";
import type { NetworkNamespace } from "../../../kernel/namespace.ts";
import { HOOK_PRIORITY } from "../../../linux/netfilter.ts";
import { iptablesText, isIptablesTable, ruleText } from "../../../linux/nftables/text/ruleset.ts";
import type { BaseChain, Chain, Table } from "../../../linux/nftables/ruleset.ts";
import type { Address } from "../../../linux/route/address.ts";
import type { Link } from "../../../linux/route/link.ts";
import type { IpsecPolicy } from "../../../linux/xfrm.ts";
import { productOf, UNKNOWN_OWNER } from "../../../naming/products.ts";
import type { NatIntent, NatSource } from "../../intent.ts";
import { rangeOf } from "./walk-matches.ts";
import { droppersIn, type Arriving, type Dropper } from "./walk-rules.ts";

/** So many addresses of a source are tried at most: those at which a rule may begin to match. */
const MOST_TRIED = 256;
const INSTEAD = "or choose the backend nftables, which translates where rules expect it";

/** Behind the node's own sockets there is no place at a link: their ports are not the programs' to give. */
function refuseFromNode(intents: readonly NatIntent[], doing: string): void {
  const owner = intents.find(({ sources }) => sources.some(({ fromNode }) => fromNode === true))?.owner;
  if (owner === undefined) return;
  throw new WayoutError({
    code: "nat-refused",
    kind: "broken",
    doing,
    said: `${owner} wants what the node itself sends translated (hostTraffic), and programs at the links translate pods alone`,
    todo: `Leave hostTraffic out, ${INSTEAD}.`,
    details: { owner, field: "hostTraffic" },
  });
}

/** @throws WayoutError `nat-refused`, with the rule or the policy's selector */
export function refuseUnfit(
  namespace: NetworkNamespace,
  intents: readonly NatIntent[],
  links: readonly Link[],
  doing: string,
): void {
  refuseFromNode(intents, doing);
  using route = Rtnetlink.open(namespace);
  const uplinks = uplinksAmong(route, links);
  const addresses = route.addresses();
  const sources = intents.flatMap((intent) => intent.sources);
  refuseRules(namespace, sources, uplinks, addresses, doing);
  refusePolicies(namespace, intents, uplinks, addresses, doing);
}

/** Links by which a route leads to a router, or to everywhere. */
export function uplinksAmong(route: Rtnetlink, links: readonly Link[]): Link[] {
  const leaving = new Set(
    route
      .routes()
      .filter(({ type }) => type === "unicast")
      .flatMap(({ destination, interface: link, gateway, nextHops }) => [
        ...(gateway !== undefined || /^(0\.0\.0\.0|::)\/0$/.test(destination) ? [link] : []),
        ...(nextHops ?? []).map((hop) => hop.interface),
      ]),
  );
  return links.filter(({ index, layer }) => leaving.has(index) && layer !== "loopback");
}

/** Uplinks that are bridges whose frames rules for IP are asked about: by br_netfilter, for all bridges or for this one. */
export function filteredBridges(namespace: NetworkNamespace, links: readonly Link[]): Set<number> {
  const bridges = links.filter(({ bridge }) => bridge !== undefined);
  if (bridges.length === 0) return new Set();
  const forAll = (["iptables", "ip6tables"] as const).some(
    (what) => readSysctl(namespace, `net.bridge.bridge-nf-call-${what}`) === "1",
  );
  const filtered = bridges.filter(
    ({ bridge }) => forAll || bridge?.callIptables === true || bridge?.callIp6tables === true,
  );
  if (filtered.length === 0) return new Set();
  using route = Rtnetlink.open(namespace);
  const uplinks = new Set(uplinksAmong(route, links));
  return new Set(filtered.filter((link) => uplinks.has(link)).map(({ index }) => index));
}

// ── Rules before routing ─────────────────────────────────────────────────────────────────────────────────────────

type Early = { readonly table: Table; readonly chain: Chain & { readonly base: BaseChain } };

function refuseRules(
  namespace: NetworkNamespace,
  sources: readonly NatSource[],
  uplinks: readonly Link[],
  addresses: readonly Address[],
  doing: string,
): void {
  using nftables = Nftables.open(namespace);
  const tables = [...nftables.ruleset().tables, ...readLegacyTables({ namespace })];
  const early = tables.flatMap(earlyChains);
  if (early.length === 0) return;
  const ipsets = early.some(({ table }) => isIptablesTable(table)) ? listIpsets(namespace) : [];
  const own = new Set(addresses.map(({ address }) => address));
  for (const link of uplinks) {
    for (const family of [4, 6] as const) {
      const node = addressAt(addresses, link, family);
      const chains = early.filter((one) => concerns(one, family, link));
      if (node === undefined || chains.length === 0) continue;
      const arriving = (destination: string): Arriving => ({
        family,
        destination,
        isLocal: own.has(destination),
        link,
        ipsets,
      });
      const droppers = (packet: Arriving): Dropper[] =>
        chains.flatMap(({ table, chain }) => droppersIn(table, chain, packet));
      const anyway = new Set(droppers(arriving(node)).map(({ rule, chain }) => rule ?? chain));
      for (const pod of podsTried(sources, family, chains, ipsets)) {
        if (own.has(pod)) continue;
        const found = droppers(arriving(pod)).find(({ rule, chain }) => !anyway.has(rule ?? chain));
        if (found !== undefined) throw ruleRefusal(found, { pod, link, ipsets }, doing);
      }
    }
  }
}

/** Those that see what arrives before nf_nat would have translated it back. */
function earlyChains(table: Table): Early[] {
  if (table.flags.includes("dormant")) return [];
  return table.chains.flatMap((chain) => {
    const { base } = chain;
    if (base === undefined || base.type !== "filter") return [];
    const isEarly =
      base.hook === "ingress" || (base.hook === "prerouting" && base.priority < HOOK_PRIORITY.dstnat);
    return isEarly && table.family !== "bridge" && table.family !== "arp"
      ? [{ table, chain: chain as Early["chain"] }]
      : [];
  });
}

function concerns({ table, chain }: Early, family: IpFamily, link: Link): boolean {
  if (table.family === "ip" ? family !== 4 : table.family === "ip6" && family !== 6) return false;
  if (chain.base.hook !== "ingress") return true;
  return (chain.base.devices ?? []).some((name) =>
    name.endsWith("*") ? link.name.startsWith(name.slice(0, -1)) : name === link.name,
  );
}

function addressAt(addresses: readonly Address[], link: Link, family: IpFamily): string | undefined {
  return addresses.find(
    (one) => one.interface === link.index && one.family === family && one.scope === "global",
  )?.address;
}

/** Of each source its first and last address, and those that rules name: between them no rule makes a difference. */
function podsTried(
  sources: readonly NatSource[],
  family: IpFamily,
  chains: readonly Early[],
  ipsets: readonly Ipset[],
): string[] {
  const digits = family === 4 ? 8 : 32;
  const named = [
    ...chains.flatMap(({ table }) => numbersIn(table, digits)),
    ...chains.flatMap(({ table }) => rangesIn(table, family)),
    ...addressesIn(ipsets, family),
  ];
  const tried = new Set<bigint>();
  for (const { cidr } of sources) {
    const { family: of, first, last, prefixLength } = parseCidr(cidr);
    if (of !== family) continue;
    const isNetwork = prefixLength < ipBits(family) - 1;
    for (const one of [isNetwork ? first + 1n : first, isNetwork ? last - 1n : last]) tried.add(one);
    for (const one of named) {
      if (tried.size >= MOST_TRIED) break;
      for (const near of [one, one + 1n]) if (near >= first && near <= last) tried.add(near);
    }
  }
  return [...tried].map((one) => ipFromNumber(family, one));
}

/** Every value in a table that may be an address, or the beginning of one. */
function numbersIn(table: Table, digits: number): bigint[] {
  const padded = (hex: string | undefined): bigint[] =>
    hex === undefined || hex.length > digits ? [] : [BigInt(`0x${hex.padEnd(digits, "0")}`)];
  return [
    ...table.sets.flatMap(({ elements }) =>
      elements.flatMap(({ key, keyEnd }) => [
        ...padded(key?.slice(0, digits)),
        ...padded(keyEnd?.slice(0, digits)),
      ]),
    ),
    ...table.chains.flatMap(({ rules }) =>
      rules.flatMap(({ expressions }) =>
        expressions.flatMap((one) =>
          one.kind === "cmp"
            ? padded(one.data)
            : one.kind === "range"
              ? [...padded(one.from), ...padded(one.to)]
              : [],
        ),
      ),
    ),
  ];
}

function rangesIn(table: Table, family: IpFamily): bigint[] {
  const expressions = table.chains.flatMap(({ rules }) => rules.flatMap((rule) => rule.expressions));
  const ends = expressions.flatMap((one) => (one.kind === "match" ? rangeOf(one, family) : []));
  return ends.map(ipNumber);
}

/** Where the entries of ipsets begin, and where they end. */
function addressesIn(ipsets: readonly Ipset[], family: IpFamily): bigint[] {
  const parts = ipsets
    .filter((one) => one.family === family)
    .flatMap(({ entries }) => entries.flatMap(({ value }) => value.split(",")));
  return parts.flatMap((text) => {
    const [begin] = text.split(/[-/]/);
    if (!isIp(begin!) || ipFamily(begin!) !== family) return [];
    if (!text.includes("/")) return text.split("-").map(ipNumber);
    const { first, last } = parseCidr(text, "keep");
    return [first, last];
  });
}

function ruleRefusal(
  { table, chain, rule }: Dropper,
  { pod, link, ipsets }: { readonly pod: string; readonly link: Link; readonly ipsets: readonly Ipset[] },
  doing: string,
): WayoutError {
  const { family, name } = table;
  const text =
    rule === undefined
      ? "its policy"
      : isIptablesTable(table)
        ? iptablesText(rule, family, { ipsets: ipsetNames(ipsets) })
        : ruleText(rule, table);
  const traits = {
    family,
    table: name,
    chain: chain.name,
    text: rule === undefined ? "" : ruleText(rule, table),
  };
  const product = productOf(rule?.comment === undefined ? traits : { ...traits, comment: rule.comment });
  const owner = product === undefined ? UNKNOWN_OWNER : product.product;
  return new WayoutError({
    code: "nat-refused",
    kind: "broken",
    doing,
    said: `a rule before routing would drop the answers to ${pod} that arrive by ${link.name}, which the programs have translated back by then: table ${family} ${name}, chain ${chain.name}: ${text}; its owner: ${owner}`,
    todo: `Let the rule except answers to pods, ${INSTEAD}.`,
    details: {
      table: `${family} ${name}`,
      chain: chain.name,
      rule: text,
      owner,
      address: pod,
      link: link.name,
    },
  });
}

// ── IPsec ────────────────────────────────────────────────────────────────────────────────────────────────────────

function refusePolicies(
  namespace: NetworkNamespace,
  intents: readonly NatIntent[],
  uplinks: readonly Link[],
  addresses: readonly Address[],
  doing: string,
): void {
  const outward = policiesIn(namespace).filter(
    (policy) => policy.direction === "out" && actionOf(policy) !== "pass",
  );
  if (outward.length === 0) return;
  const shown = [...new Set(intents.flatMap((intent) => shownAs(intent, uplinks, addresses)))];
  for (const policy of outward) {
    if (intents.every(({ untranslated }) => untranslated.some((cidr) => isInside(policy.destination, cidr))))
      continue;
    const address = shown.find((one) => prefixContains(policy.source, one));
    if (address === undefined) continue;
    throw new WayoutError({
      code: "nat-refused",
      kind: "broken",
      doing,
      said: `an IPsec policy is about ${address}, which pods would leave as, and is not asked behind our programs: they would leave in clear: ${selectorText(policy)}`,
      todo: `Leave ${policy.destination} untranslated, ${INSTEAD}.`,
      details: { policy },
    });
  }
}

/** Without those of xfrm interfaces, which are asked by those links themselves, behind our programs there. */
export function policiesIn(namespace: NetworkNamespace): readonly IpsecPolicy[] {
  let transport: NetlinkTransport | undefined;
  try {
    return readIpsec(() => (transport = openTransport(NETLINK_XFRM, { namespace })))?.policies ?? [];
  } finally {
    transport?.close();
  }
}

function actionOf({ action, templates }: IpsecPolicy): "block" | "transform" | "pass" {
  return action === "block" ? "block" : templates.length > 0 ? "transform" : "pass";
}

/** The addresses that pods are seen as: of a range its ends. */
function shownAs(intent: NatIntent, uplinks: readonly Link[], addresses: readonly Address[]): string[] {
  return intent.sources.flatMap(({ translation: { snat } }) =>
    snat === undefined
      ? addresses
          .filter((one) => uplinks.some(({ index }) => index === one.interface))
          .map(({ address }) => address)
      : [snat.first, snat.last],
  );
}

function isInside(prefix: string, cidr: string): boolean {
  const [inner, outer] = [parseCidr(prefix, "keep"), parseCidr(cidr)];
  return cidrsOverlap(inner, outer) && inner.prefixLength >= outer.prefixLength;
}

function selectorText(policy: IpsecPolicy): string {
  const { source, destination, protocol, priority } = policy;
  const proto = protocol === 0 ? "" : ` proto ${protocol}`;
  return `src ${source} dst ${destination}${proto} dir out priority ${priority} (${actionOf(policy)})`;
}
