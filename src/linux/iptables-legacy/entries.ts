/**
 * The tables of iptables-legacy as the kernel hands them over: one block of entries, told apart by their offsets
 * (struct ipt_entry and ip6t_entry, include/uapi/linux/netfilter_ipv4/ip_tables.h). Here they become tables as
 * nf_tables has them, so that reading, printing and predicting rules need only one kind: addresses, interfaces and
 * protocols as expressions, matches and targets as xtables extensions. Pure.
 */
import { DecodeError } from "../netlink/wire.ts";
import type { Expression } from "../nftables/expressions.ts";
import { NFT_REG_1, NFT_REG_VERDICT } from "../nftables/registers.ts";
import type { BaseChain, Chain, Hook, Rule, Table } from "../nftables/ruleset.ts";
import { hexText, type Verdict } from "../nftables/values.ts";
import { decodeUtf8 } from "../../platform/bytes.ts";
import type { XtFamily } from "../xtables/extension.ts";
import { HOOK_PRIORITY } from "../netfilter.ts";
import { INET_HOOKS } from "../nftables/ruleset.ts";

/** struct ipt_getinfo without the name. */
export interface TableInfo {
  /** Bit mask of hooks (enum nf_inet_hooks) that the table has a chain for. */
  readonly validHooks: number;
  /** Offset of each hook's first rule, and of its policy. */
  readonly hookEntry: readonly number[];
  readonly underflow: readonly number[];
  readonly entries: number;
  /** Bytes of all entries. */
  readonly size: number;
}

/** A table is named after its place, but for NAT, which has another on its way out. */
function priorityOf(table: string, hook: Hook): number {
  if (table === "nat") {
    return hook === "postrouting" || hook === "input" ? HOOK_PRIORITY.srcnat : HOOK_PRIORITY.dstnat;
  }
  return HOOK_PRIORITY[table as keyof typeof HOOK_PRIORITY] ?? HOOK_PRIORITY.filter;
}

/** Where the fields of an entry lie; everything else is the same in both families. */
interface Layout {
  readonly addressBytes: number;
  readonly protocol: number;
  readonly flags: number;
  readonly invertedFlags: number;
  readonly targetOffset: number;
  readonly counters: number;
  readonly size: number;
  readonly gotoFlag: number;
  /** ip6t_entry marks that the protocol counts. */
  readonly protocolFlag: number | undefined;
  /** In the packet: source, destination. */
  readonly packet: readonly [source: number, destination: number];
}

const LAYOUTS: Readonly<Record<XtFamily, Layout>> = {
  ip: {
    addressBytes: 4,
    protocol: 80,
    flags: 82,
    invertedFlags: 83,
    targetOffset: 88,
    counters: 96,
    size: 112,
    gotoFlag: 2,
    protocolFlag: undefined,
    packet: [12, 16],
  },
  ip6: {
    addressBytes: 16,
    protocol: 128,
    flags: 131,
    invertedFlags: 132,
    targetOffset: 140,
    counters: 152,
    size: 168,
    gotoFlag: 4,
    protocolFlag: 1,
    packet: [8, 24],
  },
};

const IFNAMSIZ = 16;
const IPT_F_FRAG = 1;
/** IPT_INV_* and IP6T_INV_* */
const INVERTED = { in: 1, out: 2, source: 8, destination: 16, fragment: 32, protocol: 64 } as const;
/** struct xt_entry_match and xt_entry_target: u16 size, char name[29], u8 revision. */
const EXTENSION_HEADER = 32;
const XT_RETURN = -5;

/** Sets every counter to zero, in place: what is left is the same as long as nobody changed the rules. */
export function clearCounters(family: XtFamily, entries: Uint8Array): void {
  const { counters, size, targetOffset } = LAYOUTS[family];
  const view = new DataView(entries.buffer, entries.byteOffset, entries.byteLength);
  for (let at = 0; at + size <= entries.length;) {
    entries.fill(0, at + counters, at + counters + 16);
    const length = view.getUint16(at + targetOffset + 2, true);
    if (length < size) return;
    at += length;
  }
}

interface Block {
  readonly name: string;
  readonly revision: number;
  readonly bytes: Uint8Array;
}

interface Entry {
  readonly offset: number;
  readonly next: number;
  readonly rule: readonly Expression[];
  readonly packets: number;
  readonly bytes: number;
  readonly isGoto: boolean;
  readonly target: Block;
}

class EntryReader {
  readonly #view: DataView;

  constructor(
    readonly block: Uint8Array,
    readonly layout: Layout,
  ) {
    this.#view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  }

  /** @throws DecodeError */
  read(offset: number): Entry {
    const { layout } = this;
    this.#check(offset, layout.size);
    const targetOffset = this.#view.getUint16(offset + layout.targetOffset, true);
    const size = this.#view.getUint16(offset + layout.targetOffset + 2, true);
    if (targetOffset < layout.size || size < targetOffset + EXTENSION_HEADER) {
      throw new DecodeError(`entry ${offset}`, `a target at ${targetOffset} of ${size} bytes`);
    }
    this.#check(offset, size);
    const flags = this.block[offset + layout.flags]!;
    return {
      offset,
      next: offset + size,
      rule: [...this.#addresses(offset), ...this.#matches(offset + layout.size, offset + targetOffset)],
      packets: Number(this.#view.getBigUint64(offset + layout.counters, true)),
      bytes: Number(this.#view.getBigUint64(offset + layout.counters + 8, true)),
      isGoto: (flags & layout.gotoFlag) !== 0,
      target: this.#extension(offset + targetOffset, offset + size),
    };
  }

  #check(offset: number, size: number): void {
    if (offset + size > this.block.length) {
      throw new DecodeError(`entry ${offset}`, `${size} bytes where ${this.block.length - offset} are left`);
    }
  }

  #extension(start: number, end: number): Block {
    this.#check(start, EXTENSION_HEADER);
    const size = this.#view.getUint16(start, true);
    if (size < EXTENSION_HEADER || start + size > end) {
      throw new DecodeError(`entry ${start}`, `an extension of ${size} bytes`);
    }
    return {
      name: nameOf(this.block.subarray(start + 2, start + 31)),
      revision: this.block[start + 31]!,
      bytes: this.block.subarray(start + EXTENSION_HEADER, start + size),
    };
  }

  *#matches(start: number, end: number): Generator<Expression> {
    for (let at = start; at < end;) {
      const { name, revision, bytes } = this.#extension(at, end);
      yield { kind: "match", name, revision, info: hexText(bytes) };
      at += EXTENSION_HEADER + bytes.length;
    }
  }

  /** What every entry can ask for without a match. */
  *#addresses(offset: number): Generator<Expression> {
    const { layout, block } = this;
    const width = layout.addressBytes;
    const inverted = block[offset + layout.invertedFlags]!;
    const field = (index: number): Uint8Array =>
      block.subarray(offset + index * width, offset + (index + 1) * width);
    yield* addressMatch(layout.packet[0], field(0), field(2), (inverted & INVERTED.source) !== 0);
    yield* addressMatch(layout.packet[1], field(1), field(3), (inverted & INVERTED.destination) !== 0);
    const names = offset + 4 * width;
    yield* interfaceMatch("iifname", block, names, (inverted & INVERTED.in) !== 0);
    yield* interfaceMatch("oifname", block, names + IFNAMSIZ, (inverted & INVERTED.out) !== 0);
    yield* this.#protocol(offset, (inverted & INVERTED.protocol) !== 0);
    const flags = block[offset + layout.flags]!;
    if (width === 4 && (flags & IPT_F_FRAG) !== 0) yield* fragmentMatch((inverted & INVERTED.fragment) !== 0);
  }

  *#protocol(offset: number, not: boolean): Generator<Expression> {
    const { layout } = this;
    const number = this.#view.getUint16(offset + layout.protocol, true);
    const flags = this.block[offset + layout.flags]!;
    const counts = layout.protocolFlag === undefined ? number !== 0 : (flags & layout.protocolFlag) !== 0;
    if (!counts) return;
    yield { kind: "meta", key: "l4proto", dreg: NFT_REG_1 };
    yield compare((number & 0xff).toString(16).padStart(2, "0"), not);
  }
}

function nameOf(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return decodeUtf8(bytes.subarray(0, end < 0 ? bytes.length : end));
}

function compare(data: string, not: boolean): Expression {
  return { kind: "cmp", sreg: NFT_REG_1, op: not ? "!=" : "==", data };
}

function* addressMatch(
  offset: number,
  address: Uint8Array,
  mask: Uint8Array,
  not: boolean,
): Generator<Expression> {
  if (mask.every((byte) => byte === 0) && address.every((byte) => byte === 0)) return;
  yield { kind: "payload", dreg: NFT_REG_1, base: "network", offset, length: address.length };
  if (!mask.every((byte) => byte === 0xff)) {
    const length = mask.length;
    yield {
      kind: "bitwise",
      sreg: NFT_REG_1,
      dreg: NFT_REG_1,
      length,
      mask: hexText(mask),
      xor: "00".repeat(length),
    };
  }
  yield compare(hexText(address), not);
}

/** An interface's name with its mask; a mask that ends before the name's NUL makes it the beginning of names. */
function* interfaceMatch(
  key: "iifname" | "oifname",
  block: Uint8Array,
  start: number,
  not: boolean,
): Generator<Expression> {
  const name = block.subarray(start, start + IFNAMSIZ);
  const mask = block.subarray(start + 2 * IFNAMSIZ, start + 3 * IFNAMSIZ);
  const wanted = mask.findIndex((byte) => byte === 0);
  const length = wanted < 0 ? IFNAMSIZ : wanted;
  if (length === 0) return;
  yield { kind: "meta", key, dreg: NFT_REG_1 };
  const isWhole = name[length - 1] === 0;
  yield compare(isWhole ? hexText(name) : hexText(name.subarray(0, length)), not);
}

/** `-f`: second and further fragments, which have an offset. */
function* fragmentMatch(not: boolean): Generator<Expression> {
  yield { kind: "payload", dreg: NFT_REG_1, base: "network", offset: 6, length: 2 };
  yield { kind: "bitwise", sreg: NFT_REG_1, dreg: NFT_REG_1, length: 2, mask: "1fff", xor: "0000" };
  yield { kind: "cmp", sreg: NFT_REG_1, op: not ? "==" : "!=", data: "0000" };
}

// ── From entries to chains ───────────────────────────────────────────────────────────────────────────────────────

/** A chain while its entries are gathered. */
interface OpenChain {
  readonly name: string;
  readonly hook: Hook | undefined;
  readonly start: number;
  readonly entries: Entry[];
}

function verdictNumber(entry: Entry): number | undefined {
  if (entry.target.name !== "" || entry.target.bytes.length < 4) return undefined;
  return new DataView(entry.target.bytes.buffer, entry.target.bytes.byteOffset).getInt32(0, true);
}

/** @throws DecodeError when the block is not what the kernel hands over */
export function readLegacyTable(family: XtFamily, name: string, info: TableInfo, block: Uint8Array): Table {
  const chains = gatherChains(info, readEntries(family, info, block));
  const byStart = new Map(chains.map((chain) => [chain.start, chain.name]));
  let handle = 0;
  const rules = (entries: readonly Entry[]): Rule[] =>
    entries.map((entry) => ({ handle: ++handle, expressions: ruleOf(entry, byStart) }));
  return {
    family,
    name,
    handle: 0,
    flags: [],
    chains: chains.map((chain) => chainOf(name, chain, rules)),
    sets: [],
    objects: [],
    flowtables: [],
  };
}

function readEntries(family: XtFamily, info: TableInfo, block: Uint8Array): Entry[] {
  const reader = new EntryReader(block, LAYOUTS[family]);
  const entries: Entry[] = [];
  for (let at = 0; at < info.size;) {
    const entry = reader.read(at);
    entries.push(entry);
    at = entry.next;
  }
  return entries;
}

/** Chains follow one another: the hooks' own begin where the hook does, others with a target that is their name. */
function gatherChains(info: TableInfo, entries: readonly Entry[]): OpenChain[] {
  const chains: OpenChain[] = [];
  for (const [index, entry] of entries.entries()) {
    if (entry.target.name === "ERROR") {
      if (index === entries.length - 1) break;
      chains.push({ name: nameOf(entry.target.bytes), hook: undefined, start: entry.next, entries: [] });
      continue;
    }
    const hook = INET_HOOKS.findIndex((_, number) => {
      return (info.validHooks & (1 << number)) !== 0 && info.hookEntry[number] === entry.offset;
    });
    if (hook >= 0) {
      const name = INET_HOOKS[hook]!;
      chains.push({ name: name.toUpperCase(), hook: name, start: entry.offset, entries: [] });
    }
    chains.at(-1)?.entries.push(entry);
  }
  return chains;
}

function chainOf(table: string, chain: OpenChain, rules: (entries: readonly Entry[]) => Rule[]): Chain {
  // The last entry is the policy, or for a user-defined chain the return at its end.
  const last = chain.entries.at(-1);
  const common = { name: chain.name, handle: 0, use: 0, rules: rules(chain.entries.slice(0, -1)) };
  if (chain.hook === undefined) return { ...common, flags: [] };
  const base: BaseChain = {
    type: table === "nat" ? "nat" : table === "mangle" && chain.hook === "output" ? "route" : "filter",
    hook: chain.hook,
    priority: priorityOf(table, chain.hook),
    policy: last !== undefined && verdictNumber(last) === -1 ? "drop" : "accept",
  };
  const counter = { packets: last?.packets ?? 0, bytes: last?.bytes ?? 0 };
  return { ...common, base, flags: ["base"], counter };
}

function ruleOf(entry: Entry, chains: ReadonlyMap<number, string>): Expression[] {
  const counter: Expression = { kind: "counter", packets: entry.packets, bytes: entry.bytes };
  const { name, revision, bytes } = entry.target;
  if (name !== "") return [...entry.rule, counter, { kind: "target", name, revision, info: hexText(bytes) }];
  const verdict = verdictOf(entry, chains);
  const act: Expression[] =
    verdict === undefined ? [] : [{ kind: "immediate", dreg: NFT_REG_VERDICT, data: verdict }];
  return [...entry.rule, counter, ...act];
}

/** A jump to the entry behind is how a rule without a target is stored: undefined. */
function verdictOf(entry: Entry, chains: ReadonlyMap<number, string>): Verdict | undefined {
  const number = verdictNumber(entry);
  if (number === undefined || number === entry.next) return undefined;
  if (number >= 0) {
    const chain = chains.get(number) ?? `offset ${number}`;
    return { verdict: entry.isGoto ? "goto" : "jump", chain };
  }
  if (number === XT_RETURN) return { verdict: "return" };
  // Other verdicts are stored as -verdict - 1: NF_DROP 0, NF_ACCEPT 1, NF_QUEUE 3.
  const code = -number - 1;
  if (code === 0) return { verdict: "drop" };
  if (code === 1) return { verdict: "accept" };
  return (code & 0xff) === 3 ? { verdict: "queue", argument: code >>> 16 } : { verdict: `#${code}` };
}
