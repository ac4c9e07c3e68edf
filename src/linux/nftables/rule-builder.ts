/**
 * Builders that read like the nft text they stand for. Each returns the expressions of one part of a rule; a rule is
 * their list: `addRule(chain, { expressions: [match("ip saddr", inSet("pods")), counter(), masquerade()] })`.
 *
 * What nft adds by itself is written out here: in an inet table `ip saddr` needs match("meta nfproto", "ipv4") before
 * it, and a port match("meta l4proto", "tcp").
 */
import { numberHex } from "./datatypes.ts";
import type { LOG_FLAGS, LOG_LEVELS, OBJECT_TYPES } from "./enumerations.ts";
import type { Expression, StatefulExpression } from "./expressions.ts";
import { asList, loadAll, type Selector } from "./match-builder.ts";
import { NFT_REG_1, NFT_REG_VERDICT } from "./registers.ts";
import type { Verdict } from "./values.ts";

export { anyOf, inSet, masked, match, type Selector } from "./match-builder.ts";
export * from "./nat-builder.ts";

// ── Verdicts ─────────────────────────────────────────────────────────────────────────────────────────────────────

function verdict(data: Verdict): Expression {
  return { kind: "immediate", dreg: NFT_REG_VERDICT, data };
}

export function accept(): Expression {
  return verdict({ verdict: "accept" });
}

export function drop(): Expression {
  return verdict({ verdict: "drop" });
}

/** `return`: back to the calling chain, or to the policy. */
export function returns(): Expression {
  return verdict({ verdict: "return" });
}

export function jump(chain: string): Expression {
  return verdict({ verdict: "jump", chain });
}

export function goTo(chain: string): Expression {
  return verdict({ verdict: "goto", chain });
}

/** `ip saddr vmap @name` */
export function verdictMap(selector: Selector | readonly Selector[], map: string): Expression[] {
  return [
    ...loadAll(asList(selector)),
    { kind: "lookup", set: map, sreg: NFT_REG_1, dreg: NFT_REG_VERDICT, flags: [] },
  ];
}

// ── Counters, limits, logs ───────────────────────────────────────────────────────────────────────────────────────

export function counter(): StatefulExpression & { readonly kind: "counter" } {
  return { kind: "counter", bytes: 0, packets: 0 };
}

/** `counter name "…"` and its like: an object of the table. */
export function objectRef(type: keyof typeof OBJECT_TYPES, name: string): Expression {
  return { kind: "objref", type, name };
}

const SECONDS = { second: 1, minute: 60, hour: 3600, day: 86_400, week: 604_800 } as const;

/** `limit rate 10/second burst 5 packets` */
export function limit(rate: number, per: keyof typeof SECONDS, burst = 5): Expression {
  return { kind: "limit", rate, unitSeconds: SECONDS[per], burst, type: "packets", flags: [] };
}

export interface LogOptions {
  readonly prefix?: string;
  /** To nfnetlink_log instead of the kernel's log. */
  readonly group?: number;
  readonly level?: keyof typeof LOG_LEVELS;
  readonly flags?: readonly (keyof typeof LOG_FLAGS)[];
}

/** `log prefix "…"` */
export function log(options: LogOptions = {}): Expression {
  return { kind: "log", ...options };
}

/** `notrack` */
export function notrack(): Expression {
  return { kind: "notrack" };
}

// ── Setting things ───────────────────────────────────────────────────────────────────────────────────────────────

/** `meta mark set 0x1`; with a mask `meta mark set meta mark & ~mask | value`, leaving the other bits alone. */
export function setMark(value: number, mask = 0xffffffff): Expression[] {
  return [...markValue({ kind: "meta", key: "mark", dreg: NFT_REG_1 }, value, mask), META_MARK_SET];
}

const META_MARK_SET: Expression = { kind: "meta", key: "mark", sreg: NFT_REG_1 };

/** `ct mark set …`, with a mask as setMark. */
export function setCtMark(value: number, mask = 0xffffffff): Expression[] {
  return [
    ...markValue({ kind: "ct", key: "mark", dreg: NFT_REG_1 }, value, mask),
    { kind: "ct", key: "mark", sreg: NFT_REG_1 },
  ];
}

function markValue(loadMark: Expression, value: number, mask: number): Expression[] {
  const data = numberHex(value >>> 0, 4, "host");
  if (mask >>> 0 === 0xffffffff) return [{ kind: "immediate", dreg: NFT_REG_1, data: { value: data } }];
  const keep = numberHex(~mask >>> 0, 4, "host");
  return [loadMark, { kind: "bitwise", sreg: NFT_REG_1, dreg: NFT_REG_1, length: 4, mask: keep, xor: data }];
}

/** `ct mark set meta mark` and `meta mark set ct mark` */
export function saveMark(): Expression[] {
  return [
    { kind: "meta", key: "mark", dreg: NFT_REG_1 },
    { kind: "ct", key: "mark", sreg: NFT_REG_1 },
  ];
}

export function restoreMark(): Expression[] {
  return [{ kind: "ct", key: "mark", dreg: NFT_REG_1 }, META_MARK_SET];
}

/** `meta nftrace set 1`: the packet's way through the rules is told to NftMonitor from here on. */
export function setNftrace(): Expression[] {
  return [
    { kind: "immediate", dreg: NFT_REG_1, data: { value: "01" } },
    { kind: "meta", key: "nftrace", sreg: NFT_REG_1 },
  ];
}

/** `reject with tcp reset`, or with icmpx admin-prohibited in families of both IPs. */
export function reject(
  how: "tcp reset" | "admin-prohibited" | "port-unreachable" = "port-unreachable",
): Expression {
  if (how === "tcp reset") return { kind: "reject", type: "tcp reset", code: 0 };
  return { kind: "reject", type: "icmpx", code: how === "admin-prohibited" ? 3 : 1 };
}
