/**
 * Builders that read like the nft text they stand for. Each returns the expressions of one part of a rule; a rule is
 * their list: `addRule(chain, { expressions: [match("ip saddr", inSet("pods")), counter(), masquerade()] })`.
 *
 * What nft adds by itself is written out here: in an inet table `ip saddr` needs match("meta nfproto", "ipv4") before
 * it, and a port match("meta l4proto", "tcp").
 */
import { EncodeError } from "../netlink/wire.ts";
import { datatypeNamed, intervalHex, numberHex, swapHex, valueHex, type Datatype } from "./datatypes.ts";
import type {
  CMP_OPS,
  CT_DIRECTIONS,
  CT_KEYS,
  FIB_FLAGS,
  FIB_RESULTS,
  LOG_FLAGS,
  LOG_LEVELS,
  META_KEYS,
  NAT_FLAGS,
  NAT_TYPES,
  OBJECT_TYPES,
} from "./enumerations.ts";
import type { Expression, StatefulExpression } from "./expressions.ts";
import { CT_TYPES, fieldNamed, HEADERS, META_TYPES, type FieldName } from "./fields.ts";
import { NFT_REG_1, NFT_REG_VERDICT, registerAt, registerWord } from "./registers.ts";
import type { Verdict } from "./values.ts";

/** What a rule can look at: a header field, a meta or ct key, a route type. */
export type Selector =
  | FieldName
  | `meta ${keyof typeof META_KEYS}`
  | `ct ${keyof typeof CT_KEYS}`
  | `ct ${keyof typeof CT_DIRECTIONS} ${keyof typeof CT_KEYS}`
  | "fib saddr type"
  | "fib daddr type"
  | "fib saddr . iif oif";

interface Loaded {
  readonly expression: Expression;
  readonly type: Datatype;
}

/** The type with the size that this selector's value has. */
function sized(name: string, size: number): Datatype {
  return { ...datatypeNamed(name)!, size };
}

function load(selector: Selector, register: number): Loaded {
  const [room = "", ...rest] = selector.split(" ");
  const key = rest.join(" ");
  if (room === "meta") return loadMeta(key as keyof typeof META_KEYS, register);
  if (room === "ct") return loadCt(key, register);
  if (room === "fib") return loadFib(selector, register);
  if (!(room in HEADERS)) throw new EncodeError("", `"${selector}" is nothing a rule can look at`);
  const field = fieldNamed(selector as FieldName);
  if (field.offset % 8 !== 0 || field.length % 8 !== 0) {
    throw new EncodeError("", `"${selector}" is no whole number of bytes`);
  }
  const length = field.length / 8;
  return {
    expression: { kind: "payload", dreg: register, base: field.base, offset: field.offset / 8, length },
    type: sized(field.type, length),
  };
}

function loadMeta(key: keyof typeof META_KEYS, register: number): Loaded {
  const [type, size, order] = META_TYPES[key]!;
  // Numbers that the kernel keeps in host order although their type, when it stands in a packet, has not.
  const found = sized(type, size);
  return {
    expression: { kind: "meta", key, dreg: register },
    type: type === "integer" ? { ...found, order: order ?? "host" } : found,
  };
}

function loadCt(text: string, register: number): Loaded {
  const directed = /^(original|reply) (.*)$/.exec(text);
  const key = (directed?.[2] ?? text) as keyof typeof CT_KEYS;
  const [type, size, order] = CT_TYPES[key]!;
  const direction = directed?.[1] as keyof typeof CT_DIRECTIONS | undefined;
  const found = sized(type, size);
  return {
    expression: { kind: "ct", key, ...(direction === undefined ? {} : { direction }), dreg: register },
    type: type === "integer" ? { ...found, order: order ?? "host" } : found,
  };
}

function loadFib(selector: string, register: number): Loaded {
  const isRoute = selector === "fib saddr . iif oif";
  const flags: (keyof typeof FIB_FLAGS)[] = isRoute
    ? ["saddr", "iif"]
    : [selector === "fib saddr type" ? "saddr" : "daddr"];
  const result: keyof typeof FIB_RESULTS = isRoute ? "oif" : "type";
  return {
    expression: { kind: "fib", dreg: register, result, flags },
    type: sized(isRoute ? "iface_index" : "fib_addrtype", 4),
  };
}

// ── Matches ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** A set by name, to look a value up in. */
export interface InSet {
  readonly set: string;
  readonly setId?: number;
}

/** `@name` */
export function inSet(set: string, setId?: number): InSet {
  return setId === undefined ? { set } : { set, setId };
}

/** Any of these bits: `ct state established,related`. */
export interface AnyOf {
  readonly anyOf: readonly string[];
}

export function anyOf(...names: readonly string[]): AnyOf {
  return { anyOf: names };
}

/** `& mask == value` */
export interface Masked {
  readonly mask: number;
  readonly value: number;
}

export function masked(mask: number, value: number): Masked {
  return { mask, value };
}

/** A value as nft writes it: `10.0.0.0/24`, `1024-65535`, `eth*`, 443; or a set, bits, a masked number. */
export type Operand = string | number | InSet | AnyOf | Masked;

/**
 * One condition: `match("ip saddr", "10.0.0.0/24")`, `match("meta oifname", "br0", "!=")`,
 * `match(["ip daddr", "tcp dport"], inSet("services"))`.
 * @throws EncodeError when the operand is no value of the selector's type
 */
export function match(
  selector: Selector | readonly Selector[],
  operand: Operand,
  op: "==" | "!=" | "<" | "<=" | ">" | ">=" = "==",
): Expression[] {
  try {
    if (typeof operand === "object" && "set" in operand) return lookup(selector, operand, op);
    if (typeof selector === "object")
      throw new EncodeError("", "only a set can be asked for a concatenation");
    return compare(selector, operand, op);
  } catch (error) {
    const name = typeof selector === "string" ? selector : selector.join(" . ");
    throw error instanceof EncodeError ? error.within(name) : error;
  }
}

/** Loads the parts of a concatenation side by side: each begins at a 4-byte word. */
function loadAll(selectors: readonly Selector[]): Expression[] {
  let word = 0;
  return selectors.map((selector) => {
    const { expression, type } = load(selector, word === 0 ? NFT_REG_1 : registerAt(word));
    word += Math.ceil(type.size / 4);
    return expression;
  });
}

function asList(selector: Selector | readonly Selector[]): readonly Selector[] {
  return typeof selector === "string" ? [selector] : selector;
}

function lookup(selector: Selector | readonly Selector[], set: InSet, op: string): Expression[] {
  if (op !== "==" && op !== "!=") throw new EncodeError("", `"${op}" cannot be asked of a set`);
  const flags = op === "!=" ? (["inv"] as const) : [];
  return [...loadAll(asList(selector)), { kind: "lookup", ...set, sreg: NFT_REG_1, flags }];
}

function compare(
  selector: Selector,
  operand: string | number | AnyOf | Masked,
  op: keyof typeof CMP_OPS,
): Expression[] {
  const { expression, type } = load(selector, NFT_REG_1);
  if (typeof operand === "object") return [expression, ...compareBits(type, operand, op)];
  const { first, last } = intervalHex(type, operand);
  if (first === last) return [expression, cmp(op, first)];
  const common = commonBytes(first, last);
  if (common !== undefined && (expression.kind === "payload" || type.name === "ifname")) {
    // A prefix of whole bytes: compare only those.
    const shorter = expression.kind === "payload" ? { ...expression, length: common } : expression;
    return [shorter, cmp(op, first.slice(0, common * 2))];
  }
  const mask = prefixMask(first, last);
  if (mask !== undefined && type.order === "big" && /\//.test(String(operand))) {
    return [expression, bitwiseAnd(mask), cmp(op, first)];
  }
  return [expression, ...compareRange(type, first, last, op)];
}

function compareBits(type: Datatype, operand: AnyOf | Masked, op: keyof typeof CMP_OPS): Expression[] {
  if ("mask" in operand) {
    const mask = numberHex(operand.mask >>> 0, type.size, type.order);
    return [bitwiseAnd(mask), cmp(op, numberHex(operand.value >>> 0, type.size, type.order))];
  }
  const bits = operand.anyOf.reduce(
    (sum, name) => sum | BigInt(`0x${swapIfHost(type, valueHex(type, name))}`),
    0n,
  );
  const none = "00".repeat(type.size);
  return [bitwiseAnd(numberHex(bits, type.size, type.order)), cmp(op === "!=" ? "==" : "!=", none)];
}

function swapIfHost(type: Datatype, text: string): string {
  return type.order === "big" ? text : swapHex(text);
}

/** Ranges are compared byte by byte, so a number in host order is turned around first. */
function compareRange(type: Datatype, first: string, last: string, op: keyof typeof CMP_OPS): Expression[] {
  const isHost = type.order === "host" && type.size > 1;
  const from = isHost ? swapIfHost(type, first) : first;
  const to = isHost ? swapIfHost(type, last) : last;
  const turn: Expression[] = isHost
    ? [{ kind: "byteorder", sreg: 1, dreg: 1, op: "hton", length: type.size, size: type.size }]
    : [];
  if (op === "!=") return [...turn, { kind: "range", sreg: NFT_REG_1, op: "!=", from, to }];
  if (op !== "==") throw new EncodeError("", `"${op}" cannot be asked of a range`);
  return [...turn, cmp(">=", from), cmp("<=", to)];
}

/** How many whole bytes an interval of that very prefix shares; undefined for another kind of interval. */
function commonBytes(first: string, last: string): number | undefined {
  let at = 0;
  while (at < first.length && first.slice(at, at + 2) === last.slice(at, at + 2)) at += 2;
  const rest = first.length - at;
  const isPrefix = first.slice(at) === "0".repeat(rest) && last.slice(at) === "f".repeat(rest);
  return isPrefix && at > 0 ? at / 2 : undefined;
}

/** The mask of an interval that is a prefix; undefined when it is none. */
function prefixMask(first: string, last: string): string | undefined {
  const host = BigInt(`0x${first}`) ^ BigInt(`0x${last}`);
  if ((host & (host + 1n)) !== 0n) return undefined;
  const all = (1n << BigInt(first.length * 4)) - 1n;
  return (all ^ host).toString(16).padStart(first.length, "0");
}

function cmp(op: keyof typeof CMP_OPS, data: string): Expression {
  return { kind: "cmp", sreg: NFT_REG_1, op, data };
}

function bitwiseAnd(mask: string): Expression {
  const length = mask.length / 2;
  return { kind: "bitwise", sreg: NFT_REG_1, dreg: NFT_REG_1, length, mask, xor: "00".repeat(length) };
}

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

// ── NAT ──────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface NatOptions {
  /** Ports to choose from: `1024-65535`, or one. */
  readonly ports?: string | number;
  readonly random?: boolean;
  readonly fullyRandom?: boolean;
  readonly persistent?: boolean;
}

function natFlags(options: NatOptions, ...more: (keyof typeof NAT_FLAGS)[]): (keyof typeof NAT_FLAGS)[] {
  const flags: (keyof typeof NAT_FLAGS)[] = [...more];
  if (options.ports !== undefined) flags.push("proto-specified");
  if (options.random === true) flags.push("random");
  if (options.persistent === true) flags.push("persistent");
  if (options.fullyRandom === true) flags.push("fully-random");
  return flags;
}

/** Loads the two ends of a range into two registers; one when they are equal. */
function loadRange(type: Datatype, range: string | number, registers: readonly [number, number]) {
  const { first, last } = intervalHex(type, range);
  const expressions: Expression[] = [{ kind: "immediate", dreg: registers[0], data: { value: first } }];
  if (first !== last) expressions.push({ kind: "immediate", dreg: registers[1], data: { value: last } });
  return { expressions, min: registers[0], max: first === last ? undefined : registers[1] };
}

function loadPorts(options: NatOptions, registers: readonly [number, number]) {
  if (options.ports === undefined) return undefined;
  return loadRange(datatypeNamed("inet_service")!, options.ports, registers);
}

/** `masquerade to :1024-65535 random,persistent` */
export function masquerade(options: NatOptions = {}): Expression[] {
  const ports = loadPorts(options, [NFT_REG_1, registerAt(4)]);
  const flags = natFlags(options);
  return [
    ...(ports?.expressions ?? []),
    {
      kind: "masq",
      ...(flags.length === 0 ? {} : { flags }),
      ...(ports === undefined ? {} : { sregProtoMin: ports.min }),
      ...(ports?.max === undefined ? {} : { sregProtoMax: ports.max }),
    },
  ];
}

/** `redirect to :PORTS` */
export function redirect(options: NatOptions = {}): Expression[] {
  const ports = loadPorts(options, [NFT_REG_1, registerAt(4)]);
  const flags = natFlags(options);
  return [
    ...(ports?.expressions ?? []),
    {
      kind: "redir",
      ...(ports === undefined ? {} : { sregProtoMin: ports.min }),
      ...(ports?.max === undefined ? {} : { sregProtoMax: ports.max }),
      ...(flags.length === 0 ? {} : { flags }),
    },
  ];
}

function nat(type: keyof typeof NAT_TYPES, addresses: string, options: NatOptions): Expression[] {
  const family = addresses.includes(":") ? "ip6" : "ip";
  const addressType = datatypeNamed(family === "ip" ? "ipv4_addr" : "ipv6_addr")!;
  const address = loadRange(addressType, addresses, [registerAt(0), registerAt(4)]);
  const ports = loadPorts(options, [registerAt(8), registerAt(12)]);
  const flags = natFlags(options, "map-ips");
  return [
    ...address.expressions,
    ...(ports?.expressions ?? []),
    {
      kind: "nat",
      type,
      family,
      sregAddrMin: address.min,
      ...(address.max === undefined ? {} : { sregAddrMax: address.max }),
      ...(ports === undefined ? {} : { sregProtoMin: ports.min }),
      ...(ports?.max === undefined ? {} : { sregProtoMax: ports.max }),
      flags,
    },
  ];
}

/** `snat ip to 203.0.113.5:1024-65535 random`; the address, or a range `203.0.113.5-203.0.113.9`, tells the family. */
export function snat(addresses: string, options: NatOptions = {}): Expression[] {
  return nat("snat", addresses, options);
}

/** `dnat ip to …` */
export function dnat(addresses: string, options: NatOptions = {}): Expression[] {
  return nat("dnat", addresses, options);
}

export interface NatMapOptions extends NatOptions {
  /** What the map is asked for. */
  readonly key: Selector | readonly Selector[];
  readonly map: string;
  readonly family: "ip" | "ip6";
  /** The map's data are ranges of addresses (`dataInterval`). */
  readonly interval?: boolean;
  /** The map's data bring the ports too: `ipv4_addr . inet_service`. */
  readonly withPorts?: boolean;
}

/** `snat ip to ip saddr map @name`: a packet whose key is not in the map is left alone. */
export function snatByMap(options: NatMapOptions): Expression[] {
  const ports = options.withPorts === true ? undefined : loadPorts(options, [registerAt(8), registerAt(12)]);
  return [
    ...loadAll(asList(options.key)),
    { kind: "lookup", set: options.map, sreg: NFT_REG_1, dreg: NFT_REG_1, flags: [] },
    ...(ports?.expressions ?? []),
    {
      kind: "nat",
      type: "snat",
      family: options.family,
      ...mapRegisters(options),
      ...(ports === undefined ? {} : { sregProtoMin: ports.min }),
      ...(ports?.max === undefined ? {} : { sregProtoMax: ports.max }),
      flags: natFlags(
        options,
        "map-ips",
        ...(options.withPorts === true ? (["proto-specified"] as const) : []),
      ),
    },
  ];
}

/** Where a map's data lie, once loaded: address, port, and for a range both once more. */
function mapRegisters({ family, interval, withPorts }: NatMapOptions) {
  const port = registerWord(NFT_REG_1) + (family === "ip" ? 1 : 4);
  const second = withPorts === true ? port + 1 : port;
  const secondPort = second + port - registerWord(NFT_REG_1);
  return {
    sregAddrMin: NFT_REG_1,
    ...(withPorts === true ? { sregProtoMin: registerAt(port) } : {}),
    ...(interval === true ? { sregAddrMax: registerAt(second) } : {}),
    ...(interval === true && withPorts === true ? { sregProtoMax: registerAt(secondPort) } : {}),
  };
}

/** `reject with tcp reset`, or with icmpx admin-prohibited in families of both IPs. */
export function reject(
  how: "tcp reset" | "admin-prohibited" | "port-unreachable" = "port-unreachable",
): Expression {
  if (how === "tcp reset") return { kind: "reject", type: "tcp reset", code: 0 };
  return { kind: "reject", type: "icmpx", code: how === "admin-prohibited" ? 3 : 1 };
}
