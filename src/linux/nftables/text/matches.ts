/** Conditions as text: a value, an operator, what it is compared with. */
import type { Datatype } from "../datatypes.ts";
import { isBitmask } from "../symbols.ts";
import {
  formatInterval,
  formatNumber,
  formatValue,
  hexNumber,
  prefixLength,
  quoted,
  type Names,
} from "./format.ts";
import type { PlacedField, Value } from "./registers.ts";
import { bytesOfHex, decodeUtf8, hexOf } from "../../../platform/bytes.ts";

function typeOf(value: Value): Datatype {
  return value.types[0]!;
}

/** `==` goes without saying, but for sets of bits, where the bare form asks for any of them. */
function operator(op: string, type: Datatype): string {
  return op === "==" && !isBitmask(type.name) ? "" : `${op} `;
}

/** One value compared with bytes. Several texts where one load covered several fields. */
export function comparison(value: Value, op: string, data: string, names: Names): string[] {
  if (value.mask !== undefined) return [maskedComparison(value, op, data, names)];
  if (value.place !== undefined && value.text.startsWith("@")) {
    const fields = placedComparison(value, op, data, names);
    if (fields !== undefined) return fields;
  }
  return [plainComparison(value, op, data, names)];
}

/** A load that is no field by itself: several fields at once, or the first bytes of one. */
function placedComparison(value: Value, op: string, data: string, names: Names): string[] | undefined {
  const cover = op === "==" ? value.place!.cover?.() : undefined;
  if (cover !== undefined) {
    let at = 0;
    return cover.map((field) => {
      const part = data.slice(at, (at += field.length / 4));
      return `${field.text} ${operator(op, field.type)}${formatValue(field.type, part, names)}`;
    });
  }
  const longer = op === "==" || op === "!=" ? value.place!.longer?.() : undefined;
  if (longer === undefined || !isAddress(longer.type)) return undefined;
  const whole = data.padEnd(longer.length / 4, "0");
  const prefix = `${formatValue(longer.type, whole, names)}/${data.length * 4}`;
  return [`${longer.text} ${operator(op, longer.type)}${prefix}`];
}

function plainComparison(value: Value, op: string, data: string, names: Names): string {
  const type = typeOf(value);
  if (data.length < type.size * 2 && isAddress(type)) {
    const whole = formatValue(type, data.padEnd(type.size * 2, "0"), names);
    return `${value.text} ${operator(op, type)}${whole}/${data.length * 4}`;
  }
  if (type.name === "ifname" && data.length < 32 && !data.endsWith("00")) {
    return `${value.text} ${operator(op, type)}${quoted(`${decodeUtf8(bytesOfHex(data))}*`)}`;
  }
  return `${value.text} ${operator(op, type)}${literal(value, data, names)}`;
}

/** Bytes as a value of the same kind as the one they are compared with. */
export function literal(value: Value, data: string, names: Names): string {
  if (value.text.startsWith("@")) return hexNumber(data === "" ? 0 : BigInt(`0x${data}`), 1);
  return formatValue(typeOf(value), data, names, value.bigEndian);
}

function isAddress(type: Datatype): boolean {
  return type.name === "ipv4_addr" || type.name === "ipv6_addr";
}

function isZero(hex: string): boolean {
  for (let at = 0; at < hex.length; at++) if (hex.charCodeAt(at) !== 48) return false;
  return true;
}

function maskedComparison(value: Value, op: string, data: string, names: Names): string {
  const type = typeOf(value);
  const mask = value.mask!;
  const isPlainMask = value.xor === undefined || isZero(value.xor);
  if (isPlainMask) {
    const field = maskedField(value, mask);
    if (field !== undefined) return fieldComparison(field, mask, op, data, names);
    if ((op === "==" || op === "!=") && isAddress(type)) {
      const length = prefixLength(mask);
      if (length !== undefined && (BigInt(`0x${data}`) & ~BigInt(`0x${mask}`)) === 0n) {
        return `${value.text} ${operator(op, type)}${formatValue(type, data, names)}/${length}`;
      }
    }
    if (isBitmask(type.name)) return bitsComparison(value, mask, op, data, names);
  }
  return `${maskedText(value, names)} ${op} ${literal(value, data, names)}`;
}

/** `ct state established,related`, `tcp flags ! syn`, `tcp flags syn / syn,ack`. */
function bitsComparison(value: Value, mask: string, op: string, data: string, names: Names): string {
  const type = typeOf(value);
  const maskNames = formatValue(type, mask, names, value.bigEndian);
  if (isZero(data)) return op === "!=" ? `${value.text} ${maskNames}` : `${value.text} ! ${maskNames}`;
  const wanted = formatValue(type, data, names, value.bigEndian);
  return `${value.text} ${op === "!=" ? "!= " : ""}${wanted} / ${maskNames}`;
}

/** The field that a mask singles out of the bytes that were loaded. */
export function maskedField(
  value: Value,
  mask: string,
): (PlacedField & { readonly shift: number }) | undefined {
  const place = value.place;
  if (place === undefined) return undefined;
  const bits = BigInt(`0x${mask}`);
  if (bits === 0n) return undefined;
  const total = mask.length * 4;
  const high = bits.toString(2).length;
  let shift = 0;
  while (((bits >> BigInt(shift)) & 1n) === 0n) shift++;
  if (bits >> BigInt(shift) !== (1n << BigInt(high - shift)) - 1n) return undefined;
  const field = place.field(place.offset + total - high, high - shift);
  return field === undefined ? undefined : { ...field, shift };
}

function fieldComparison(
  field: PlacedField & { readonly shift: number },
  mask: string,
  op: string,
  data: string,
  names: Names,
): string {
  const number = BigInt(`0x${data}`) >> BigInt(field.shift);
  const text = formatNumber(field.type, Number(number), names, Math.ceil(mask.length / 2));
  return `${field.text} ${operator(op, field.type)}${text}`;
}

/** `meta mark & 0xffffff00 | 0x00000010`: what (value & mask) ^ xor does, as nft splits it. */
export function maskedText(value: Value, names: Names): string {
  if (value.mask === undefined) return value.text;
  const type = typeOf(value);
  const all = (1n << BigInt(value.mask.length * 4)) - 1n;
  const swap = value.bigEndian === true || type.order === "big";
  const number = (hex: string): bigint => BigInt(`0x${swap ? hex : turned(hex)}`);
  const mask = number(value.mask);
  const xor = number(value.xor ?? "00".repeat(value.mask.length / 2));
  const or = xor & (all ^ mask);
  const bytes = value.mask.length / 2;
  const operand = (bits: bigint): string => maskOperand(type, bits, bytes, names, value.text.startsWith("@"));
  let text = value.text;
  if ((mask | or) !== all) text += ` & ${operand(mask | or)}`;
  if ((xor ^ or) !== 0n) text += ` ^ ${operand(xor ^ or)}`;
  if (or !== 0n) text += ` | ${operand(or)}`;
  return text;
}

function turned(hex: string): string {
  return hexOf(bytesOfHex(hex).toReversed());
}

function maskOperand(type: Datatype, bits: bigint, bytes: number, names: Names, isRaw: boolean): string {
  if (isBitmask(type.name)) {
    const text = formatNumber(type, bits, names, bytes);
    return text.includes(",") ? `(${text.replaceAll(",", " | ")})` : text;
  }
  if (isAddress(type)) {
    return formatValue(type, bits.toString(16).padStart(bytes * 2, "0"), names);
  }
  if (type.name === "mark") return hexNumber(bits, 8);
  return isRaw ? hexNumber(bits, 1) : String(bits);
}

/** `tcp dport 1024-65535`, `ip saddr != 10.0.0.1-10.0.0.9` */
export function rangeComparison(value: Value, op: string, from: string, to: string, names: Names): string {
  const type = typeOf(value);
  const not = op === "!=" ? "!= " : "";
  const masked = maskedText(value, names);
  if (value.text.startsWith("@"))
    return `${masked} ${not}${literal(value, from, names)}-${literal(value, to, names)}`;
  return `${masked} ${not}${formatInterval(type, from, to, names, value.bigEndian)}`;
}
