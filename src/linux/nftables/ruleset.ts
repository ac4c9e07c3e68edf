/**
 * A ruleset as one plain, JSON-able value: what `nft list ruleset` prints, with the expressions as the kernel has
 * them. Raw data (keys, compared values) is lower-case hexadecimal; see values.ts.
 */
import { NFPROTO } from "../netfilter.ts";
import type { OBJECT_TYPES } from "./enumerations.ts";
import type { Expression, StatefulExpression } from "./expressions.ts";
import type { Data, Named } from "./values.ts";

/** The families that nf_tables has tables for. */
export type Family = "ip" | "ip6" | "inet" | "arp" | "bridge" | "netdev";

/** NFPROTO_* of each family. */
export const FAMILIES: Readonly<Record<Family, number>> = {
  ip: NFPROTO.ipv4,
  ip6: NFPROTO.ipv6,
  inet: NFPROTO.inet,
  arp: NFPROTO.arp,
  bridge: NFPROTO.bridge,
  netdev: NFPROTO.netdev,
};

const familyByNumber = new Map(Object.entries(FAMILIES).map(([name, number]) => [number, name as Family]));

/** The family with this NFPROTO_* number. */
export function nftFamily(nfproto: number): Family | undefined {
  return familyByNumber.get(nfproto);
}

export interface Ruleset {
  /** NFTA_GEN_ID: changes with every transaction; the ruleset is of exactly this generation. */
  readonly generation: number;
  readonly tables: readonly Table[];
}

/** A table by name, as changes and look-ups name it. */
export interface TableRef {
  readonly family: Family;
  readonly table: string;
}

export interface ChainRef extends TableRef {
  readonly chain: string;
}

export interface RuleRef extends ChainRef {
  readonly handle: number;
}

export interface SetRef extends TableRef {
  readonly set: string;
}

export type TableFlag = "dormant" | "owner" | "persist";

/** A table without what is in it. */
export interface TableHead {
  readonly family: Family;
  readonly name: string;
  readonly handle: number;
  readonly flags: readonly Named<typeof TABLE_FLAGS>[];
  readonly comment?: string;
  /** Netlink port of the process that owns the table, where one does. */
  readonly owner?: number;
}

export interface Table extends TableHead {
  readonly chains: readonly Chain[];
  /** Sets and maps, anonymous ones (which rules name) included. */
  readonly sets: readonly NftSet[];
  readonly objects: readonly NftObject[];
  readonly flowtables: readonly Flowtable[];
}

export const TABLE_FLAGS = { dormant: 1, owner: 2, persist: 4 } as const;
export const CHAIN_FLAGS = { base: 1, offload: 2, binding: 4 } as const;
export const SET_FLAGS = {
  anonymous: 0x1,
  constant: 0x2,
  interval: 0x4,
  map: 0x8,
  timeout: 0x10,
  eval: 0x20,
  object: 0x40,
  concat: 0x80,
  expr: 0x100,
} as const;

export type ChainType = "filter" | "nat" | "route";
/** Where the kernel calls a base chain. */
export type Hook = "prerouting" | "input" | "forward" | "output" | "postrouting" | "ingress" | "egress";

/** What makes a chain a base chain: the kernel calls it by itself. */
export interface BaseChain {
  readonly type: ChainType;
  readonly hook: Hook;
  /** Lower is earlier. */
  readonly priority: number;
  readonly policy: "accept" | "drop";
  /** netdev family, and ingress of inet: the interfaces it listens on. A name ending in `*` is a prefix. */
  readonly devices?: readonly string[];
}

/** A chain without its rules. */
export interface ChainHead {
  readonly name: string;
  readonly handle: number;
  /** Absent for a chain that only a jump or goto reaches. */
  readonly base?: BaseChain;
  readonly flags: readonly Named<typeof CHAIN_FLAGS>[];
  /** How many rules and verdict map elements use it, its own rules included. */
  readonly use: number;
  readonly comment?: string;
  /** Of the policy, in chains that iptables-nft made. */
  readonly counter?: { readonly packets: number; readonly bytes: number };
}

export interface Chain extends ChainHead {
  /** In the order in which packets meet them. */
  readonly rules: readonly Rule[];
}

export interface Rule {
  readonly handle: number;
  readonly expressions: readonly Expression[];
  readonly comment?: string;
  /** User data that is no comment, hexadecimal (iptables-nft and others leave notes there). */
  readonly userdata?: string;
  /** The protocol that iptables-nft tells xtables modules about. */
  readonly compat?: { readonly protocol: number; readonly flags: number };
  /**
   * Only in rules that were read with `deferred`, whose expressions are decoded when asked for: one of them, without
   * those behind it; undefined behind the last.
   */
  expressionAt?(index: number): Expression | undefined;
  /** Only there as well: false where a name (of a match, of an expression) cannot be in it; nothing is decoded for that. */
  mayHold?(word: string): boolean;
}

export interface NftSet {
  readonly name: string;
  readonly handle: number;
  readonly flags: readonly Named<typeof SET_FLAGS>[];
  /** What a key is: nft's numbers of its data types, 6 bits for each part of a concatenation (see datatypes.ts). */
  readonly keyType: number;
  /** Bytes of a key; each part of a concatenation is padded to 4. */
  readonly keyLength: number;
  /** Bytes of each part of a concatenation with intervals. */
  readonly fieldLengths?: readonly number[];
  /** Of a map: what an element leads to. 0xffffff00 is a verdict. */
  readonly dataType?: number;
  readonly dataLength?: number;
  /** Of a map that leads to objects. */
  readonly objectType?: Named<typeof OBJECT_TYPES>;
  readonly policy?: "performance" | "memory";
  /** Most elements it may hold. */
  readonly size?: number;
  readonly timeoutMs?: number;
  readonly gcIntervalMs?: number;
  /** Expressions that every element gets, e.g. a counter. */
  readonly expressions?: readonly StatefulExpression[];
  readonly comment?: string;
  /** nft's notes about types and byte order, hexadecimal TLVs (see userdata.ts). */
  readonly userdata?: string;
  readonly elements: readonly SetElement[];
}

/** An element of a set or map. Intervals are closed: from `key` to `keyEnd`, both included. */
export interface SetElement {
  /** Absent for the catch-all element (`*`). */
  readonly key?: string;
  /** Last key of an interval; absent when the element is one key. In concatenations each part is a range. */
  readonly keyEnd?: string;
  /** Where a map leads: raw bytes or a verdict. */
  readonly data?: Data;
  /** Where an object map leads. */
  readonly object?: string;
  readonly timeoutMs?: number;
  readonly expiresMs?: number;
  readonly expressions?: readonly StatefulExpression[];
  readonly comment?: string;
}

/** A stateful object. `data` depends on the type; a type we do not know keeps its bytes. */
export type NftObject = {
  readonly name: string;
  readonly handle: number;
  readonly comment?: string;
} & ObjectValue;

export type ObjectValue =
  | { readonly type: "counter"; readonly packets: number; readonly bytes: number }
  | {
      readonly type: "quota";
      readonly bytes: number;
      readonly consumed: number;
      readonly flags: readonly string[];
    }
  | {
      readonly type: "limit";
      readonly rate: number;
      readonly unitSeconds: number;
      readonly burst: number;
      readonly per: "packets" | "bytes";
      readonly over: boolean;
    }
  | { readonly type: "connlimit"; readonly count: number; readonly over: boolean }
  | {
      readonly type: "ct helper";
      readonly helper: string;
      readonly l3proto: number;
      readonly l4proto: number;
    }
  | {
      readonly type: "ct timeout";
      readonly l3proto: number;
      readonly l4proto: number;
      /** Seconds by number of the protocol's state (enum ctattr_timeout_*). */
      readonly timeouts: Readonly<Record<number, number>>;
    }
  | {
      readonly type: "ct expectation";
      readonly l3proto: number;
      readonly l4proto: number;
      readonly dport: number;
      readonly timeoutMs: number;
      readonly size: number;
    }
  | { readonly type: "secmark"; readonly context: string }
  | {
      readonly type: "synproxy";
      readonly mss: number;
      readonly wscale: number;
      readonly flags: readonly string[];
    }
  | { readonly type: "other"; readonly number: number; readonly data: string };

export interface Flowtable {
  readonly name: string;
  readonly handle: number;
  readonly hook: Hook;
  readonly priority: number;
  readonly devices: readonly string[];
  readonly flags: readonly string[];
}

// ── Hooks ────────────────────────────────────────────────────────────────────────────────────────────────────────

/** enum nf_inet_hooks; bridge shares the first five numbers. */
export const INET_HOOKS: readonly Hook[] = [
  "prerouting",
  "input",
  "forward",
  "output",
  "postrouting",
  "ingress",
];
/** NF_ARP_IN and so on (linux/netfilter_arp.h). */
const ARP_HOOKS: readonly Hook[] = ["input", "output", "forward"];
/** enum nf_dev_hooks */
const NETDEV_HOOKS: readonly Hook[] = ["ingress", "egress"];

function hooksOf(family: Family): readonly Hook[] {
  if (family === "arp") return ARP_HOOKS;
  return family === "netdev" ? NETDEV_HOOKS : INET_HOOKS;
}

/** The hook with this number in the family; undefined for one that this version does not know. */
export function hookName(family: Family, number: number): Hook | undefined {
  return hooksOf(family)[number];
}

/** The number of a hook; undefined when the family has none of that name. */
export function hookNumber(family: Family, hook: Hook): number | undefined {
  const number = hooksOf(family).indexOf(hook);
  return number < 0 ? undefined : number;
}
