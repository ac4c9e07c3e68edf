/** Conditions of rules, written as nft has them: `match("ip saddr", "10.0.0.0/24")`. */
import { EncodeError } from "../netlink/wire.ts";
import { datatypeNamed, intervalHex, numberHex, swapHex, valueHex, type Datatype } from "./datatypes.ts";
import type { CMP_OPS, CT_DIRECTIONS, CT_KEYS, FIB_FLAGS, FIB_RESULTS, META_KEYS } from "./enumerations.ts";
import type { Expression } from "./expressions.ts";
import { CT_TYPES, fieldNamed, HEADERS, META_TYPES, type FieldName } from "./fields.ts";
import { NFT_REG_1, registerAt } from "./registers.ts";

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
export function loadAll(selectors: readonly Selector[]): Expression[] {
  let word = 0;
  return selectors.map((selector) => {
    const { expression, type } = load(selector, word === 0 ? NFT_REG_1 : registerAt(word));
    word += Math.ceil(type.size / 4);
    return expression;
  });
}

/** One selector as a concatenation of one. */
export function asList(selector: Selector | readonly Selector[]): readonly Selector[] {
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
  if (first === last) return [expression, ...compareOne(type, first, op)];
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

/** Which of two is larger the kernel tells byte by byte, so a number in host order is turned around first. */
function turned(type: Datatype): Expression[] {
  if (type.order !== "host" || type.size === 1) return [];
  return [{ kind: "byteorder", sreg: 1, dreg: 1, op: "hton", length: type.size, size: type.size }];
}

function compareOne(type: Datatype, value: string, op: keyof typeof CMP_OPS): Expression[] {
  const turn = op === "==" || op === "!=" ? [] : turned(type);
  return [...turn, cmp(op, turn.length === 0 ? value : swapIfHost(type, value))];
}

function compareRange(type: Datatype, first: string, last: string, op: keyof typeof CMP_OPS): Expression[] {
  const turn = turned(type);
  const from = turn.length === 0 ? first : swapIfHost(type, first);
  const to = turn.length === 0 ? last : swapIfHost(type, last);
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
