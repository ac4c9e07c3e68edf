/**
 * Intents as one nf_tables table. For a dual-stack network, and one with fixed addresses:
 *
 *     table inet wayout {
 *       set claims {              # who asked for what, as comments (see claim.ts); no rule looks here
 *         type mark
 *         elements = { 0x1 comment "cni/blue source 10.88.0.0/16 masquerade fully-random", … }
 *       }
 *       set untranslated4 {       # from whom . to where; the latter alone where it is the same for every source
 *         type ipv4_addr . ipv4_addr; flags interval
 *         elements = { 10.88.0.0/16 . 10.88.0.0/16, 10.88.0.0/16 . 169.254.0.0/16, 10.88.0.0/16 . 224.0.0.0/4, … }
 *       }
 *       map egress4 {             # a source, its counter, and what becomes of it
 *         type ipv4_addr : verdict; flags interval; counter
 *         elements = { 10.88.0.0/16 counter … : goto masquerade-random, 10.89.0.0/16 counter … : goto snat4 }
 *       }
 *       map snat4 {
 *         type ipv4_addr : interval ipv4_addr; flags interval
 *         elements = { 10.89.0.0/16 : 203.0.113.8-203.0.113.9 }
 *       }
 *       chain masquerade-random { counter masquerade fully-random }
 *       chain snat4 { counter snat ip to ip saddr map @snat4 persistent }
 *       chain postrouting {
 *         type nat hook postrouting priority srcnat - 5; policy accept;
 *         oiftype loopback return
 *         ip saddr . ip daddr . iifname @entered-untranslated4 return
 *         ip saddr . iifname vmap @entered-egress4
 *         ip saddr . ip daddr @untranslated4 return
 *         ip saddr vmap @egress4
 *         ip6 saddr . ip6 daddr @untranslated6 return
 *         ip6 saddr vmap @egress6
 *       }
 *     }
 *
 * What is asked for packets that came by certain interfaces only (a network's bridge) stands in sets of its own, whose
 * keys have the interface's name, and comes first; `entered-egress4` holds 10.88.0.0/16 . "cni0".
 *
 * What the node itself sends, where that is asked for, stands in sets of its own, too, and is asked about before the rest:
 *
 *         fib saddr type local ip daddr @node-untranslated4 return
 *         fib saddr type local ip saddr vmap @node-egress4
 *
 * The number of rules depends on the kinds of translation in use (and, for MASQUERADE, on distinct port ranges),
 * never on how many sources there are; only sets grow.
 *
 * Why it is so:
 * - srcnat - 5: before the other products' chains at srcnat, so that a fixed address wins over their MASQUERADE: the
 *   first rule in hook order that sets a binding decides. What we return untranslated, they may still translate (an
 *   accept or return ends one base chain only): hairpin traffic that portmap or kube-proxy marked stays theirs.
 * - No `ct state established,related accept`: chains of type nat see the first packet of a connection and no other.
 * - oiftype loopback instead of `fib daddr type local`: traffic of the node with itself always leaves by loopback, and
 *   comparing a number costs less than a route look-up.
 * - No marks are set or read, so none can collide.
 * - What shall be dropped goes to a chain `drop` (ct direction original counter drop), at the first packet of a connection,
 *   which then never is one: each further packet is a first one again.
 * - No forward chain: where nothing filters, forwarding is accepted anyway; where another table drops, no accept of
 *   ours could overrule it.
 */
import { ARPHRD } from "../../../linux/link-layer.ts";
import { parseCidr } from "../../../address/cidr.ts";
import { ipFromNumber, type IpFamily } from "../../../address/ip.ts";
import type { ElementSpec, SetSpec } from "../../../linux/nftables/commands.ts";
import type { Expression } from "../../../linux/nftables/expressions.ts";
import {
  counter,
  drop,
  inSet,
  masquerade,
  match,
  returns,
  snatByMap,
  verdictMap,
  type Selector,
} from "../../../linux/nftables/rule-builder.ts";
import type { PortRange } from "../../../linux/ip-protocol.ts";
import type { BaseChain } from "../../../linux/nftables/ruleset.ts";
import { CLAIMS, DROP_CHAIN, NAT_PRIORITY, TABLE } from "./names.ts";
import { claimsOf } from "../../claim.ts";
import { cidrsOf, NEVER_TRANSLATED, type NatIntent, type NatSource, type Translation } from "../../intent.ts";
import {
  counts,
  coverOf,
  FROM_NODE,
  joinSegments,
  segmentsOf,
  type AddressNumbers,
  type OwnedSource,
  type Segment,
} from "../../segment.ts";
import { PORT_PROTOCOLS } from "../../../linux/ip-protocol.ts";

export interface WantedChain {
  readonly name: string;
  readonly base?: BaseChain;
  readonly rules: readonly (readonly Expression[])[];
}

export interface WantedSet {
  readonly spec: SetSpec;
  readonly elements: readonly ElementSpec[];
}

/** The whole table as it shall be. Sets come before the chains that use them, chains before those that go there. */
export interface WantedTable {
  readonly sets: readonly WantedSet[];
  readonly chains: readonly WantedChain[];
}

/** By the first intent, what was made of these last: the rules and their twin are written one after the other. */
const made = new WeakMap<
  NatIntent,
  { readonly intents: readonly NatIntent[]; readonly table: WantedTable }
>();

/** The table for these (normalized) intents. */
export function tableOf(intents: readonly NatIntent[]): WantedTable {
  const [first] = intents;
  const last = first === undefined ? undefined : made.get(first);
  if (last?.intents.length === intents.length && intents.every((one, index) => one === last.intents[index]))
    return last.table;
  const table = newTableOf(intents);
  if (first !== undefined) made.set(first, { intents: [...intents], table });
  return table;
}

function newTableOf(intents: readonly NatIntent[]): WantedTable {
  const claims: WantedSet = {
    spec: { ...CLAIMS, type: "mark" },
    elements: intents.flatMap(claimsOf).map((comment, index) => ({ key: index + 1, comment })),
  };
  const families = ([4, 6] as const).map((family) => familyPart(intents, family));
  const translations = new Map(families.flatMap(({ chains }) => chains.map((chain) => [chain.name, chain])));
  return {
    sets: [claims, ...families.flatMap(({ sets }) => sets)],
    chains: [
      ...translations.values(),
      {
        name: "postrouting",
        base: { type: "nat", hook: "postrouting", priority: NAT_PRIORITY, policy: "accept" },
        rules: [
          [...match("meta oiftype", ARPHRD.loopback), returns()],
          ...families.flatMap(({ rules }) => rules),
        ],
      },
    ],
  };
}

interface FamilyPart {
  readonly sets: readonly WantedSet[];
  readonly chains: readonly WantedChain[];
  /** For postrouting. */
  readonly rules: readonly (readonly Expression[])[];
}

function familyPart(intents: readonly NatIntent[], family: IpFamily): FamilyPart {
  const words = new FamilyWords(family);
  const plain = segmentsOf(intents, family, (source) => counts(source, undefined)).map((one) => ({
    ...one,
    entered: undefined,
  }));
  const parts = [
    partOf(intents, enteredPieces(intents, family), words.of("named")),
    partOf(intents, nodePieces(intents, family), words.of("node")),
  ];
  const bound = boundSets(plain, words);
  const rest = partOf(intents, plain, words);
  if (bound !== undefined) parts.push({ sets: bound, chains: [], rules: [words.leavesElsewhere()] });
  parts.push(rest);
  return {
    sets: parts.flatMap(({ sets }) => sets),
    chains: parts.flatMap(({ chains }) => chains),
    rules: parts.flatMap(({ rules }) => rules),
  };
}

/** A segment for packets that came by one interface, or that the node itself sends; undefined: by whichever. */
type Piece = Segment & { readonly entered: string | undefined };

/**
 * For each interface that an owner names, what is decided there about packets that came by it. Sources that name none
 * are among it, so that pieces are not joined over them.
 */
function enteredPieces(intents: readonly NatIntent[], family: IpFamily): Piece[] {
  const sources = intents.flatMap((intent) => intent.sources);
  const names = new Set(sources.flatMap(({ inInterfaces }) => inInterfaces ?? []));
  return [...names]
    .sort()
    .flatMap((entered) =>
      segmentsOf(intents, family, (source) => counts(source, entered)).map((one) => ({ ...one, entered })),
    );
}

/** The same about what the node itself sends, where somebody names that. */
function nodePieces(intents: readonly NatIntent[], family: IpFamily): Piece[] {
  if (!intents.some(({ sources }) => sources.some(({ fromNode }) => fromNode === true))) return [];
  return segmentsOf(intents, family, (source) => counts(source, FROM_NODE)).map((one) => ({
    ...one,
    entered: FROM_NODE,
  }));
}

/** Whether a piece is decided by a source that names the interface by which its packets came, or both name none. */
function isOwn({ entered, owned }: Piece): boolean {
  return namesEntrance(owned) === (entered !== undefined);
}

/** Whether such a source is among those that leave destinations of it untranslated. */
function hasOwn({ entered, around }: Piece): boolean {
  return entered === undefined || around.some(namesEntrance);
}

function namesEntrance({ source }: OwnedSource): boolean {
  return source.inInterfaces !== undefined || source.fromNode === true;
}

/** As joinSegments, for each interface by itself; a piece that is left out is not joined over. */
function joined(
  pieces: readonly Piece[],
  keyOf: (piece: Piece) => string,
  gaps?: "join",
  isMeant = isOwn,
): Piece[] {
  const key = (piece: Piece): string => `${piece.entered} ${isMeant(piece)} ${keyOf(piece)}`;
  return joinSegments(pieces, key, gaps).filter(isMeant);
}

function ownersOf({ around }: Piece): string[] {
  return [...new Set(around.map(({ owner }) => owner))].sort();
}

function partOf(intents: readonly NatIntent[], pieces: readonly Piece[], words: FamilyWords): FamilyPart {
  if (!pieces.some(hasOwn)) return { sets: [], chains: [], rules: [] };
  const kept = keptOf(intents, pieces, words);
  const bySource = kept.some(({ piece }) => piece !== undefined);
  return {
    sets: [untranslatedSet(kept, bySource, words), egressMap(pieces, words), ...snatMaps(pieces, words)],
    chains: translationChains(pieces.filter(isOwn), words),
    rules: [words.isUntranslated(bySource), words.egress()],
  };
}

// ── Sets ─────────────────────────────────────────────────────────────────────────────────────────────────────────

function egressMap(pieces: readonly Piece[], words: FamilyWords): WantedSet {
  // Each source has its own counter, so neighbours are joined only when they are pieces of the same source.
  const own = joined(pieces, ({ owned }) => `${owned.owner} ${owned.source.cidr}`);
  return {
    spec: {
      ...TABLE,
      set: words.set("egress"),
      type: words.typeOf(words.type),
      dataType: "verdict",
      flags: ["interval"],
      expressions: [counter()],
    },
    elements: own.map((piece) => ({
      key: words.key(piece, words.range(piece)),
      data: { verdict: "goto", chain: chainName(piece.owned.source.translation, words) },
      expressions: [counter()],
    })),
  };
}

/** Destinations that shall see the real address of a source; of whichever, where no piece is named. */
interface Kept {
  readonly piece: Piece | undefined;
  readonly destinations: readonly AddressNumbers[];
}

/**
 * Every source with the destinations that shall see its real address. A thousand sources of one owner are one range
 * here: an address between them is no source, and leaves untranslated anyway. For the same reason no source need be
 * named where all have the same owners, as with a policy alone: the kernel fills a set of pairs in time that grows with
 * the square of their number, and one of addresses in no time.
 */
function keptOf(intents: readonly NatIntent[], pieces: readonly Piece[], words: FamilyWords): Kept[] {
  const listed = new Map(intents.map((intent) => [intent.owner, cidrsOf(intent).untranslated]));
  const never = NEVER_TRANSLATED[words.family].map((cidr) => parseCidr(cidr));
  const coverFor = (owners: readonly string[]): AddressNumbers[] => {
    const cidrs = [...owners.flatMap((owner) => listed.get(owner)!), ...never];
    return coverOf(cidrs.filter(({ family }) => family === words.family));
  };
  const covers = new Map<string, AddressNumbers[]>();
  const coverOfOwners = (owners: readonly string[]): AddressNumbers[] => {
    const key = owners.join(" ");
    let cover = covers.get(key);
    if (cover === undefined) covers.set(key, (cover = coverFor(owners)));
    return cover;
  };
  const kept = joined(pieces, (piece) => ownersOf(piece).join(" "), "join", hasOwn).map((piece) => ({
    piece,
    destinations: coverOfOwners(ownersOf(piece)),
  }));
  // Packets that came by another interface are asked about once more, so theirs must not be answered here.
  if (covers.size !== 1 || words.entrance !== "any") return kept;
  return [{ piece: undefined, destinations: kept[0]!.destinations }];
}

function untranslatedSet(kept: readonly Kept[], bySource: boolean, words: FamilyWords): WantedSet {
  const type = bySource ? words.typeOf(`${words.type} . ${words.type}`) : words.type;
  return {
    spec: { ...TABLE, set: words.set("untranslated"), type, flags: ["interval"] },
    elements: kept.flatMap(({ piece, destinations }) =>
      destinations.map((range) => ({
        key:
          piece === undefined ? words.range(range) : words.key(piece, words.range(piece), words.range(range)),
      })),
    ),
  };
}

/** Sources that are translated on certain interfaces only, and those interfaces. */
function boundSets(pieces: readonly Piece[], words: FamilyWords): WantedSet[] | undefined {
  const bound = joined(pieces, ({ owned }) => owned.source.outInterfaces?.join(",") ?? "", "join").filter(
    ({ owned }) => owned.source.outInterfaces !== undefined,
  );
  if (bound.length === 0) return undefined;
  return [
    {
      spec: { ...TABLE, set: words.set("bound"), type: words.type, flags: ["interval"] },
      elements: bound.map((piece) => ({ key: words.range(piece) })),
    },
    {
      spec: { ...TABLE, set: words.set("leave"), type: `${words.type} . ifname`, flags: ["interval"] },
      elements: bound.flatMap((piece) =>
        piece.owned.source.outInterfaces!.map((name) => ({ key: [words.range(piece), name] })),
      ),
    },
  ];
}

/** The fixed addresses of each source, and for those with a port range, addresses and ports. */
function snatMaps(pieces: readonly Piece[], words: FamilyWords): WantedSet[] {
  const fixed = (piece: Piece): boolean => piece.owned.source.translation.snat !== undefined;
  const own = joined(
    pieces,
    ({ owned }) => JSON.stringify([owned.source.translation.snat, owned.source.translation.ports]),
    "join",
  ).filter(fixed);
  const withPorts = own.filter(({ owned }) => owned.source.translation.ports !== undefined);
  const base = {
    ...TABLE,
    type: words.typeOf(words.type),
    dataInterval: true,
    flags: ["interval"],
  } as const;
  const maps: WantedSet[] = [
    {
      spec: { ...base, set: words.set("snat"), dataType: words.type },
      elements: own.map((piece) => ({
        key: words.key(piece, words.range(piece)),
        data: addressText(piece.owned.source),
      })),
    },
    {
      spec: { ...base, set: words.set("snat", "-ports"), dataType: `${words.type} . inet_service` },
      elements: withPorts.map((piece) => ({
        key: words.key(piece, words.range(piece)),
        data: [addressText(piece.owned.source), portText(piece.owned.source.translation.ports!)],
      })),
    },
  ];
  return maps.filter(({ elements }) => elements.length > 0);
}

function addressText({ translation: { snat } }: NatSource): string {
  return `${snat!.first}-${snat!.last}`;
}

function portText({ first, last }: PortRange): string {
  return `${first}-${last}`;
}

// ── Chains ───────────────────────────────────────────────────────────────────────────────────────────────────────

/** MASQUERADE chains serve both families. A port range belongs to the chain: masq has no map that nft could print. */
function chainName(translation: Translation, words: FamilyWords): string {
  if (translation.drop === true) return DROP_CHAIN;
  const random = translation.fullyRandom ? "-random" : "";
  const ports = translation.ports === undefined ? "" : `-${portText(translation.ports)}`;
  if (translation.snat === undefined) return `masquerade${ports}${random}`;
  return `${words.set("snat", ports === "" ? "" : "-ports")}${random}`;
}

/** One chain for each kind of translation that is used. */
function translationChains(segments: readonly Segment[], words: FamilyWords): WantedChain[] {
  const kinds = new Map(
    segments.map(({ owned: { source } }) => [chainName(source.translation, words), source.translation]),
  );
  return [...kinds].map(([name, translation]) => ({ name, rules: translationRules(translation, words) }));
}

/** One rule that translates; with a port range, one for each protocol that has ports and one for the others. */
function translationRules(translation: Translation, words: FamilyWords): Expression[][] {
  // A question about connections makes the kernel track them: without, no chain of type nat is ever asked.
  if (translation.drop === true) return [[...match("ct direction", "original"), counter(), drop()]];
  const { ports, ...anyPort } = translation;
  const withPorts =
    ports === undefined
      ? []
      : PORT_PROTOCOLS.map((protocol) => [
          ...match("meta l4proto", protocol),
          ...translate(translation, words),
        ]);
  return [...withPorts, translate(anyPort, words)];
}

function translate({ snat, ports, fullyRandom }: Translation, words: FamilyWords): Expression[] {
  if (snat === undefined) {
    const options = ports === undefined ? { fullyRandom } : { fullyRandom, ports: portText(ports) };
    return [counter(), ...masquerade(options)];
  }
  const withPorts = ports !== undefined;
  return [
    ...words.isFamily(),
    counter(),
    ...snatByMap({
      key: words.keyFields("saddr"),
      map: words.set("snat", withPorts ? "-ports" : ""),
      family: words.header,
      interval: true,
      withPorts,
      persistent: true,
      fullyRandom,
    }),
  ];
}

// ── A family's words ─────────────────────────────────────────────────────────────────────────────────────────────

/** Whether it counts how a packet came to the node: by an interface that somebody names, or by none. */
type Entrance = "any" | "named" | "node";
const SET_PREFIX = { any: "", named: "entered-", node: "node-" } as const;

/** How one address family is spelled in rules and sets. */
class FamilyWords {
  readonly type: "ipv4_addr" | "ipv6_addr";
  readonly header: "ip" | "ip6";

  constructor(
    readonly family: IpFamily,
    readonly entrance: Entrance = "any",
  ) {
    this.type = family === 4 ? "ipv4_addr" : "ipv6_addr";
    this.header = family === 4 ? "ip" : "ip6";
  }

  of(entrance: Entrance): FamilyWords {
    return new FamilyWords(this.family, entrance);
  }

  set(name: string, ending = ""): string {
    return `${SET_PREFIX[this.entrance]}${name}${this.family}${ending}`;
  }

  typeOf(addresses: string): string {
    return this.entrance === "named" ? `${addresses} . ifname` : addresses;
  }

  /** A key of one of the sets: its addresses, and the interface where it counts. */
  key({ entered }: Piece, ...addresses: string[]): string | string[] {
    const parts = entered === undefined || entered === FROM_NODE ? addresses : [...addresses, entered];
    return parts.length === 1 ? parts[0]! : parts;
  }

  /** The same in a rule. */
  keyFields(...names: ("saddr" | "daddr")[]): Selector[] {
    const fields = names.map((name) => this.field(name));
    return this.entrance === "named" ? [...fields, "meta iifname"] : fields;
  }

  field(name: "saddr" | "daddr"): `ip ${typeof name}` | `ip6 ${typeof name}` {
    return `${this.header} ${name}`;
  }

  /** As set elements are written: `10.0.0.0-10.0.0.255`. */
  range({ first, last }: AddressNumbers): string {
    const [low, high] = [ipFromNumber(this.family, first), ipFromNumber(this.family, last)];
    return low === high ? low : `${low}-${high}`;
  }

  /** What nft implies in an inet table before it looks at an address. */
  isFamily(): Expression[] {
    return match("meta nfproto", this.family === 4 ? "ipv4" : "ipv6");
  }

  /** The same, and before it looks at an address of the node where that counts: `fib saddr type local`. */
  isMeant(): Expression[] {
    return [...this.isFamily(), ...(this.entrance === "node" ? match("fib saddr type", "local") : [])];
  }

  /** `ip saddr . ip daddr @untranslated4 return` */
  isUntranslated(bySource: boolean): Expression[] {
    const key = bySource ? this.keyFields("saddr", "daddr") : this.field("daddr");
    return [...this.isMeant(), ...match(key, inSet(this.set("untranslated"))), returns()];
  }

  /** `ip saddr @bound4 ip saddr . oifname != @leave4 return` */
  leavesElsewhere(): Expression[] {
    const saddr = this.field("saddr");
    return [
      ...this.isFamily(),
      ...match(saddr, inSet(this.set("bound"))),
      ...match([saddr, "meta oifname"], inSet(this.set("leave")), "!="),
      returns(),
    ];
  }

  /** `ip saddr vmap @egress4` */
  egress(): Expression[] {
    return [...this.isMeant(), ...verdictMap(this.keyFields("saddr"), this.set("egress"))];
  }
}
