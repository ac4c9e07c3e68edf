/** Expressions that load something into a register, as nft writes what they load. */
import { datatypeNamed, type ByteOrder, type Datatype } from "../datatypes.ts";
import type { Expression, ExpressionKinded } from "../expressions.ts";
import { CT_TYPES, META_TYPES } from "../fields.ts";
import { exthdrField, exthdrText } from "./extensions.ts";
import type { FoundField, Protocols } from "./protocols.ts";
import type { Layer, PacketBits, PlacedField, Value } from "./registers.ts";

/** A data type with the size its value has here. */
export function sized(name: string, size: number): Datatype {
  const type = datatypeNamed(name)!;
  return type.size === size ? type : { ...type, size };
}

/** Numbers that the kernel loads in host order, of types that name no order of their own. */
function hostSized(name: string, size: number, order: ByteOrder = "host"): Datatype {
  const type = datatypeNamed(name)!;
  return { ...type, size, order: name === "integer" ? order : type.order };
}

function plain(text: string, type: Datatype, implies?: readonly string[]): Value {
  return implies === undefined
    ? { text, types: [type], size: type.size }
    : { text, types: [type], size: type.size, implies };
}

/** The meta keys that nft writes without `meta`. */
const UNQUALIFIED: ReadonlySet<string> = new Set([
  "iif",
  "oif",
  "iifname",
  "oifname",
  "iifgroup",
  "oifgroup",
]);

export function metaText(key: string): string {
  return UNQUALIFIED.has(key) ? key : `meta ${key}`;
}

export function metaType(key: string): Datatype {
  const [name, size, order] = META_TYPES[key] ?? ["integer", 4];
  return hostSized(name, size, order);
}

export function ctText(expression: Pick<ExpressionKinded<"ct">, "key" | "direction">): string {
  return expression.direction === undefined
    ? `ct ${expression.key}`
    : `ct ${expression.direction} ${expression.key}`;
}

export function ctType(key: string): Datatype {
  const [name, size, order] = CT_TYPES[key] ?? ["integer", 4];
  return hostSized(name, size, order);
}

const LAYERS: Readonly<Record<string, Layer>> = { link: "link", network: "network", transport: "transport" };
const RAW_BASES: Readonly<Record<string, string>> = {
  link: "ll",
  network: "nh",
  transport: "th",
  inner: "ih",
  tunnel: "tunnel",
};

/** Part of a packet: a field where the protocol is known and one fits, `@nh,96,32` otherwise. */
export function payloadValue(
  expression: Pick<ExpressionKinded<"payload">, "base" | "offset" | "length">,
  protocols: Protocols,
): Value {
  const offset = expression.offset * 8;
  const length = expression.length * 8;
  const layer = LAYERS[expression.base];
  const found = layer === undefined ? undefined : protocols.exact(layer, offset, length);
  if (found !== undefined && layer !== undefined) {
    return fieldValue(found);
  }
  const text = `@${RAW_BASES[expression.base] ?? expression.base},${offset},${length}`;
  const raw = { text, types: [sized("integer", expression.length)], size: expression.length };
  if (layer === undefined) return raw;
  return { ...raw, place: payloadBits(protocols, layer, offset, length) };
}

function payloadBits(protocols: Protocols, layer: Layer, offset: number, length: number): PacketBits {
  const placed = (found: FoundField): PlacedField => ({
    text: found.name,
    type: found.type,
    length: found.field.length,
    implies: found.implies,
  });
  return {
    offset,
    length,
    field: (at, bits) => {
      const found = protocols.exact(layer, at, bits);
      return found === undefined ? undefined : placed(found);
    },
    cover: () => protocols.cover(layer, offset, length)?.map(placed),
    longer: () => {
      const found = protocols.longer(layer, offset, length);
      return found === undefined ? undefined : placed(found);
    },
  };
}

const metaValues = new Map<string, Value>();

function metaValue(key: string): Value {
  let value = metaValues.get(key);
  if (value === undefined) {
    value = plain(metaText(key), metaType(key));
    // Keys of a newer kernel are numbers that a snapshot's author may choose: not to be kept.
    if (key in META_TYPES) metaValues.set(key, value);
  }
  return value;
}

const ctValues = new Map<string, Value>();

function ctValue(expression: ExpressionKinded<"ct">): Value {
  if (expression.direction !== undefined) return plain(ctText(expression), ctType(expression.key));
  let value = ctValues.get(expression.key);
  if (value === undefined) {
    value = plain(ctText(expression), ctType(expression.key));
    if (expression.key in CT_TYPES) ctValues.set(expression.key, value);
  }
  return value;
}

const fieldValues = new WeakMap<FoundField, Value>();

function fieldValue(found: FoundField): Value {
  let value = fieldValues.get(found);
  if (value === undefined) fieldValues.set(found, (value = plain(found.name, found.type, found.implies)));
  return value;
}

/** What an expression puts into its `dreg`; undefined for one that loads nothing by itself. */
export function loadedValue(
  expression: Expression,
  protocols: Protocols,
): { readonly register: number; readonly value: Value } | undefined {
  switch (expression.kind) {
    case "payload":
      return expression.dreg === undefined
        ? undefined
        : { register: expression.dreg, value: payloadValue(expression, protocols) };
    case "meta":
      if (expression.dreg === undefined) return undefined;
      return { register: expression.dreg, value: metaValue(expression.key) };
    case "ct":
      if (expression.dreg === undefined) return undefined;
      return { register: expression.dreg, value: ctValue(expression) };
    case "fib":
      return { register: expression.dreg, value: fibValue(expression) };
    case "rt":
      return { register: expression.dreg, value: plain(`rt ${expression.key}`, rtType(expression.key)) };
    case "socket":
      return { register: expression.dreg, value: socketValue(expression) };
    case "numgen":
      return { register: expression.dreg, value: plain(numgenText(expression), hostSized("integer", 4)) };
    case "osf":
      return { register: expression.dreg, value: plain(osfText(expression), sized("string", 16)) };
    case "xfrm":
      return { register: expression.dreg, value: xfrmValue(expression) };
    case "tunnel":
      return { register: expression.dreg, value: tunnelValue(expression) };
    case "exthdr":
      return exthdrLoad(expression, protocols);
    default:
      return undefined;
  }
}

function fibValue(expression: ExpressionKinded<"fib">): Value {
  const present = expression.flags?.includes("present") === true;
  const flags = (expression.flags ?? []).filter((flag) => flag !== "present").join(" . ");
  const text = `fib ${flags} ${expression.result}`;
  if (present) return plain(text, sized("boolean", 1));
  if (expression.result === "oifname") return plain(text, sized("ifname", 16));
  return plain(text, sized(expression.result === "type" ? "fib_addrtype" : "iface_index", 4));
}

function rtType(key: string): Datatype {
  if (key === "ip nexthop") return sized("ipv4_addr", 4);
  if (key === "ip6 nexthop") return sized("ipv6_addr", 16);
  if (key === "ipsec") return sized("boolean", 1);
  return key === "mtu" ? hostSized("integer", 2) : sized("realm", 4);
}

function socketValue(expression: ExpressionKinded<"socket">): Value {
  if (expression.key === "mark") return plain("socket mark", sized("mark", 4));
  if (expression.key !== "cgroupv2") return plain(`socket ${expression.key}`, hostSized("integer", 1));
  return plain(`socket cgroupv2 level ${expression.level ?? 0}`, sized("cgroupsv2", 8));
}

function numgenText(expression: ExpressionKinded<"numgen">): string {
  const offset =
    expression.offset === undefined || expression.offset === 0 ? "" : ` offset ${expression.offset}`;
  return `numgen ${expression.type} mod ${expression.modulus}${offset}`;
}

const OSF_TTL = ["", "loose", "skip"] as const;

function osfText(expression: ExpressionKinded<"osf">): string {
  const ttl = OSF_TTL[expression.ttl ?? 0] ?? "";
  const what = expression.flags?.includes("version") === true ? "version" : "name";
  return ttl === "" ? `osf ${what}` : `osf ttl ${ttl} ${what}`;
}

function xfrmValue(expression: ExpressionKinded<"xfrm">): Value {
  const spnum = expression.spnum === undefined || expression.spnum === 0 ? "" : ` spnum ${expression.spnum}`;
  const text = `ipsec ${expression.direction}${spnum} ${expression.key}`;
  if (expression.key.startsWith("ip6 ")) return plain(text, sized("ipv6_addr", 16));
  if (expression.key.startsWith("ip ")) return plain(text, sized("ipv4_addr", 4));
  return plain(text, expression.key === "reqid" ? hostSized("integer", 4) : sized("integer", 4));
}

function tunnelValue(expression: ExpressionKinded<"tunnel">): Value {
  const text = `tunnel ${expression.key}`;
  return plain(text, expression.key === "path" ? sized("boolean", 1) : hostSized("integer", 4));
}

function exthdrLoad(
  expression: ExpressionKinded<"exthdr">,
  protocols: Protocols,
): { readonly register: number; readonly value: Value } | undefined {
  if (expression.dreg === undefined) return undefined;
  const { text, type } = exthdrText(expression);
  const implies = (expression.op ?? "ipv6") === "ipv6" ? protocols.impliedBy("ip6") : undefined;
  const present = expression.flags?.includes("present") === true;
  const value = plain(text, present ? sized("boolean", 1) : type, implies);
  if (present) return { register: expression.dreg, value };
  const place: PacketBits = {
    offset: (expression.offset ?? 0) * 8,
    length: (expression.length ?? 0) * 8,
    field: (at, bits) => exthdrField(expression, at, bits),
  };
  return { register: expression.dreg, value: { ...value, place } };
}

/** `jhash ip saddr . ip daddr mod 4 seed 0x1 offset 2` */
export function hashText(expression: ExpressionKinded<"hash">, over: string): string {
  const seed =
    expression.seed === undefined || expression.seed === 0 ? "" : ` seed 0x${expression.seed.toString(16)}`;
  const offset =
    expression.offset === undefined || expression.offset === 0 ? "" : ` offset ${expression.offset}`;
  if (expression.type === "symhash") return `symhash mod ${expression.modulus}${offset}`;
  return `jhash ${over} mod ${expression.modulus}${seed}${offset}`;
}
