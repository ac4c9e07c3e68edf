/** Tables of nf_tables, ours and those of iptables-nft, and of iptables-legacy in the shape that the listing walks. Pure. */
import { cidrsOfRange, cidrText, parseCidr } from "../address/cidr.ts";
import { ipNumber, ipText, type IpFamily } from "../address/ip.ts";
import { datatypesLength, datatypesOf, type Datatype } from "../linux/nftables/datatypes.ts";
import { DEEPEST_JUMP } from "../linux/nftables/enumerations.ts";
import type { Expression } from "../linux/nftables/expressions.ts";
import { isIptablesTable } from "../linux/nftables/text/ruleset.ts";
import { formatValue, stringOf } from "../linux/nftables/text/format.ts";
import type { NftSet, Rule, SetElement, Table } from "../linux/nftables/ruleset.ts";
import { intentsOfClaims } from "../nat/claim.ts";
import type { Counter, NatElement, NatRule, NatTable, RulesetKind } from "./listing.ts";
import { BACKENDS, NAT_BACKENDS } from "../nat/backends/backends.ts";
import { commentOf } from "./rule-comment.ts";
import { counts, segmentsOf, type Segment } from "../nat/segment.ts";
import { present } from "../present.ts";

/** How a rule reads; given from outside because it may need more than the table. */
export type RuleText = (table: Table, rule: Rule) => string;

/**
 * Tables that can take part in NAT: with a chain of type nat, or with a rule that translates.
 * @param legacy whether they are those of iptables-legacy, whose rules have no handles
 */
export function natTablesOf(tables: readonly Table[], ruleText: RuleText, legacy = false): NatTable[] {
  return tables.filter(isNat).map((table) => {
    const claims = claimsIn(table);
    const owners = claims === undefined ? undefined : ownersOf(claims);
    const kind: RulesetKind = legacy
      ? "iptables-legacy"
      : isIptablesTable(table)
        ? "iptables-nft"
        : "nftables";
    return {
      kind,
      family: table.family,
      name: table.name,
      dormant: table.flags.includes("dormant"),
      chains: table.chains.map((chain) =>
        present({
          name: chain.name,
          base: chain.base,
          rules: chain.rules.map((rule) => ({
            ...natRuleOf(table, rule, ruleText, owners),
            ...present({ handle: legacy ? undefined : rule.handle }),
          })),
        }),
      ),
    };
  });
}

function isNat(table: Table): boolean {
  return table.chains.some(
    ({ base, rules }) =>
      base?.type === "nat" || rules.some(({ expressions }) => translationOf(expressions) !== undefined),
  );
}

/** What a table of ours holds of claims; undefined when it is not ours, or its backend keeps them elsewhere. */
function claimsIn({ family, name, sets }: Table): readonly SetElement[] | undefined {
  const ours = NAT_BACKENDS.map((backend) => BACKENDS[backend].table).find(
    (table) => table?.family === family && table.table === name,
  );
  return ours && (sets.find((set) => set.name === ours.claims)?.elements ?? []);
}

const TARGETS: Readonly<Record<string, NonNullable<NatRule["translates"]>>> = {
  MASQUERADE: "masquerade",
  SNAT: "snat",
  DNAT: "dnat",
  REDIRECT: "redirect",
  NETMAP: "netmap",
};

function translationOf(expressions: readonly Expression[]): NatRule["translates"] {
  for (const one of expressions) {
    if (one.kind === "masq") return "masquerade";
    if (one.kind === "redir") return "redirect";
    if (one.kind === "nat") return one.type === "dnat" ? "dnat" : "snat";
    if (one.kind === "target") return TARGETS[one.name];
  }
  return undefined;
}

function natRuleOf(table: Table, rule: Rule, ruleText: RuleText, owners: OwnerAt | undefined): NatRule {
  const { expressions } = rule;
  const translates = translationOf(expressions);
  const map = verdictMapOf(table, expressions);
  const comment = commentOf(rule);
  const counter = expressions.find((one) => one.kind === "counter");
  return present({
    text: ruleText(table, rule),
    targets: [...new Set([...jumpsOf(expressions), ...(map === undefined ? [] : mapTargets(map))])],
    endsChain: isUnconditional(expressions) && isFinal(table, expressions),
    comment,
    counter: counter === undefined ? undefined : { packets: counter.packets, bytes: counter.bytes },
    translates,
    elements: map?.elements.map((element) => elementOf(map, element, owners)),
  });
}

function jumpsOf(expressions: readonly Expression[]): string[] {
  return expressions.flatMap((one) =>
    one.kind === "immediate" && "verdict" in one.data && one.data.chain !== undefined ? [one.data.chain] : [],
  );
}

/** Expressions that let every packet through to the next: they count, log, load constants, or act. */
const WITHOUT_CONDITION: ReadonlySet<Expression["kind"]> = new Set([
  "counter",
  "last",
  "log",
  "objref",
  "immediate",
  "masq",
  "nat",
  "redir",
  "target",
] as const);

function isUnconditional(expressions: readonly Expression[]): boolean {
  return expressions.every(
    (one) => WITHOUT_CONDITION.has(one.kind) || (one.kind === "match" && one.name === "comment"),
  );
}

/** Whether a packet that matched goes no further in this chain. */
function isFinal(table: Table, expressions: readonly Expression[]): boolean {
  if (translationOf(expressions) !== undefined) return true;
  return expressions.some((one) => {
    if (one.kind !== "immediate" || !("verdict" in one.data)) return false;
    const { verdict, chain } = one.data;
    if (verdict === "jump") return endsInside(table, chain);
    return ["accept", "drop", "return", "goto", "queue"].includes(verdict);
  });
}

/** A jump does not come back from a chain whose own rule decides every packet, unless by return. */
function endsInside(table: Table, name: string | undefined, depth = 0): boolean {
  const chain = table.chains.find((one) => one.name === name);
  if (chain === undefined || depth > DEEPEST_JUMP) return false;
  for (const { expressions } of chain.rules) {
    if (mayReturn(expressions)) return false;
    if (isUnconditional(expressions) && isFinal(table, expressions)) return true;
  }
  return false;
}

function mayReturn(expressions: readonly Expression[]): boolean {
  return expressions.some(
    (one) =>
      (one.kind === "immediate" &&
        "verdict" in one.data &&
        ["return", "goto", "jump"].includes(one.data.verdict)) ||
      (one.kind === "lookup" && one.dreg === 0),
  );
}

// ── Verdict maps ─────────────────────────────────────────────────────────────────────────────────────────────────

function verdictMapOf(table: Table, expressions: readonly Expression[]): NftSet | undefined {
  const lookup = expressions.find((one) => one.kind === "lookup" && one.dreg === 0);
  if (lookup?.kind !== "lookup") return undefined;
  return table.sets.find(({ name }) => name === lookup.set);
}

function mapTargets(map: NftSet): string[] {
  return map.elements.flatMap(({ data }) =>
    data !== undefined && "verdict" in data && data.chain !== undefined ? [data.chain] : [],
  );
}

function elementOf(map: NftSet, element: SetElement, owners: OwnerAt | undefined): NatElement {
  const { data } = element;
  const counter = element.expressions?.find((one) => one.kind === "counter");
  const parts = keyParts(map, element);
  const owner = parts[0]?.address === undefined ? undefined : owners?.(parts[0].address, parts[1]?.text);
  return present({
    key: parts.length === 0 ? "*" : parts.map(({ text }) => text).join(" . "),
    leadsTo:
      data === undefined || !("verdict" in data)
        ? ""
        : data.chain === undefined
          ? data.verdict
          : `${data.verdict} ${data.chain}`,
    counter: counter?.kind === "counter" ? counterOf(counter) : undefined,
    owner,
    comment: element.comment,
  });
}

function counterOf({ packets, bytes }: Counter): Counter {
  return { packets, bytes };
}

interface KeyPart {
  readonly text: string;
  /** The first of its addresses; undefined when it is something else. */
  readonly address?: string;
}

/** The parts of a concatenation, or the one that the key is; none for the catch-all element. */
function keyParts(map: NftSet, { key, keyEnd = key }: SetElement): KeyPart[] {
  if (key === undefined || keyEnd === undefined) return [];
  const named = datatypesOf(map.keyType) ?? [];
  // The kernel tells the lengths of parts only for maps of intervals: the types have them as well.
  const isWhole = map.fieldLengths !== undefined || datatypesLength(named) === map.keyLength;
  const types = isWhole ? named : [];
  const lengths = map.fieldLengths ?? (types.length > 1 ? types.map(({ size }) => size) : [map.keyLength]);
  let start = 0;
  return lengths.map((length, index) => {
    const [first, last] = [key, keyEnd].map((hex) => hex.slice(start, start + length * 2)) as [
      string,
      string,
    ];
    // Each part of a concatenation is padded to 4 bytes.
    start += Math.ceil(length / 4) * 8;
    return keyPart(types[index], first, last);
  });
}

/** Addresses as prefixes or ranges, the others as nft has them; what has no type as hexadecimal. */
function keyPart(type: Datatype | undefined, first: string, last: string): KeyPart {
  if (type === undefined) return { text: `0x${first}` };
  if (type.name === "ifname") return { text: stringOf(first) };
  if (type.name !== "ipv4_addr" && type.name !== "ipv6_addr") {
    const [from, to] = [first, last].map((hex) => formatValue(type, hex, {}));
    return { text: from === to ? from! : `${from}-${to}` };
  }
  const [address, end] = [addressOf(first), addressOf(last)];
  if (address === end) return { text: address, address };
  const family: IpFamily = type.name === "ipv4_addr" ? 4 : 6;
  const [cidr, ...rest] = cidrsOfRange(family, ipNumber(address), ipNumber(end));
  const text = cidr !== undefined && rest.length === 0 ? cidrText(cidr) : `${address}-${end}`;
  return { text, address };
}

function addressOf(hex: string): string {
  return ipText(Uint8Array.from(Buffer.from(hex, "hex")));
}

/** Whose source an address is, of packets that came by an interface, or by any. */
type OwnerAt = (address: string, entered: string | undefined) => string | undefined;

/** Of our table. */
function ownersOf(claims: readonly SetElement[]): OwnerAt {
  const intents = intentsOfClaims(claims.flatMap(({ comment }) => comment ?? []));
  const cache = new Map<string, Segment[]>();
  return (address, entered) => {
    const { family, first } = parseCidr(address);
    const key = `${family} ${entered ?? ""}`;
    let segments = cache.get(key);
    if (segments === undefined) {
      cache.set(key, (segments = segmentsOf(intents, family, (source) => counts(source, entered))));
    }
    return segments.find((one) => one.first <= first && first <= one.last)?.owned.owner;
  };
}
