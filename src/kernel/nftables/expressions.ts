/**
 * Expressions: what a rule is made of. Each is described once, by its attributes; the type, the decoder, the encoder
 * and the names in errors follow from that description. A rule is a list of expressions that work on sixteen 4-byte
 * registers: some load (payload, meta, ct), some compare (cmp, range, lookup), some act (immediate, nat, counter).
 */
import {
  attribute,
  attributeLength,
  AttributeSet,
  listOf,
  tagged,
  type Table,
} from "../netlink/attributes.ts";
import type { AttributesOf } from "../netlink/attributes.ts";
import { be16, be32, string, u8, type Codec } from "../netlink/codec.ts";
import { align4, DecodeError, EncodeError, type Wire } from "../netlink/wire.ts";
import { bits, data, hex, hexText, named, number64, value } from "./values.ts";

// ── Enumerations, by the words that nft uses for them ────────────────────────────────────────────────────────────

/** enum nft_payload_bases */
export const PAYLOAD_BASES = { link: 0, network: 1, transport: 2, inner: 3, tunnel: 4 } as const;
/** enum nft_cmp_ops, nft_range_ops */
export const CMP_OPS = { "==": 0, "!=": 1, "<": 2, "<=": 3, ">": 4, ">=": 5 } as const;
export const RANGE_OPS = { "==": 0, "!=": 1 } as const;
/** enum nft_bitwise_ops; `and` and `or` take their second operand from a register or from data (6.13). */
export const BITWISE_OPS = { "mask-xor": 0, lshift: 1, rshift: 2, and: 3, or: 4, xor: 5 } as const;
export const BYTEORDER_OPS = { ntoh: 0, hton: 1 } as const;
/** enum nft_meta_keys */
export const META_KEYS = {
  length: 0,
  protocol: 1,
  priority: 2,
  mark: 3,
  iif: 4,
  oif: 5,
  iifname: 6,
  oifname: 7,
  iiftype: 8,
  oiftype: 9,
  skuid: 10,
  skgid: 11,
  nftrace: 12,
  rtclassid: 13,
  secmark: 14,
  nfproto: 15,
  l4proto: 16,
  ibrname: 17,
  obrname: 18,
  pkttype: 19,
  cpu: 20,
  iifgroup: 21,
  oifgroup: 22,
  cgroup: 23,
  random: 24,
  ipsec: 25,
  iifkind: 26,
  oifkind: 27,
  ibrpvid: 28,
  ibrvproto: 29,
  time: 30,
  day: 31,
  hour: 32,
  sdif: 33,
  sdifname: 34,
  broute: 35,
  ibrhwaddr: 37,
} as const;
/** enum nft_ct_keys */
export const CT_KEYS = {
  state: 0,
  direction: 1,
  status: 2,
  mark: 3,
  secmark: 4,
  expiration: 5,
  helper: 6,
  l3proto: 7,
  saddr: 8,
  daddr: 9,
  protocol: 10,
  "proto-src": 11,
  "proto-dst": 12,
  label: 13,
  packets: 14,
  bytes: 15,
  avgpkt: 16,
  zone: 17,
  event: 18,
  "ip saddr": 19,
  "ip daddr": 20,
  "ip6 saddr": 21,
  "ip6 daddr": 22,
  id: 23,
} as const;
/** enum ip_conntrack_dir */
export const CT_DIRECTIONS = { original: 0, reply: 1 } as const;
/** enum nft_rt_keys */
export const RT_KEYS = { classid: 0, "ip nexthop": 1, "ip6 nexthop": 2, mtu: 3, ipsec: 4 } as const;
/** enum nft_socket_keys */
export const SOCKET_KEYS = { transparent: 0, mark: 1, wildcard: 2, cgroupv2: 3 } as const;
/** enum nft_fib_result and nft_fib_flags */
export const FIB_RESULTS = { oif: 1, oifname: 2, type: 3 } as const;
export const FIB_FLAGS = { saddr: 1, daddr: 2, mark: 4, iif: 8, oif: 16, present: 32 } as const;
/** enum nft_exthdr_op */
export const EXTHDR_OPS = { ipv6: 0, "tcp option": 1, "ip option": 2, sctp: 3, dccp: 4 } as const;
export const HASH_TYPES = { jhash: 0, symhash: 1 } as const;
export const NUMGEN_TYPES = { inc: 0, random: 1 } as const;
export const LIMIT_TYPES = { packets: 0, bytes: 1 } as const;
/** Shared by lookup, dynset, limit, connlimit and quota: bit 0 inverts. */
const INVERT = { inv: 1 } as const;
export const DYNSET_OPS = { add: 0, update: 1, delete: 2 } as const;
/** enum nft_log_level (syslog's) */
export const LOG_LEVELS = {
  emerg: 0,
  alert: 1,
  crit: 2,
  err: 3,
  warn: 4,
  notice: 5,
  info: 6,
  debug: 7,
  audit: 8,
} as const;
/** NF_LOG_* of linux/netfilter/nf_log.h */
export const LOG_FLAGS = {
  "tcp sequence": 1,
  "tcp options": 2,
  "ip options": 4,
  skuid: 8,
  ether: 32,
} as const;
export const QUEUE_FLAGS = { bypass: 1, fanout: 2 } as const;
export const QUOTA_FLAGS = { inv: 1, depleted: 2 } as const;
/** enum nft_reject_types */
export const REJECT_TYPES = { icmp: 0, "tcp reset": 1, icmpx: 2 } as const;
export const NAT_TYPES = { snat: 0, dnat: 1 } as const;
/** NF_NAT_RANGE_* of linux/netfilter/nf_nat.h */
export const NAT_FLAGS = {
  "map-ips": 1,
  "proto-specified": 2,
  random: 4,
  persistent: 8,
  "fully-random": 16,
  "proto-offset": 32,
  netmap: 64,
} as const;
/** The NFPROTO_* that an expression names a layer-3 family by. */
export const EXPRESSION_FAMILIES = {
  unspec: 0,
  inet: 1,
  ip: 2,
  arp: 3,
  netdev: 5,
  bridge: 7,
  ip6: 10,
} as const;
export const SYNPROXY_FLAGS = { mss: 1, wscale: 2, "sack-perm": 4, timestamp: 8, ecn: 16 } as const;
export const OSF_FLAGS = { version: 1 } as const;
/** enum nft_xfrm_keys; direction is XFRM_POLICY_IN/OUT. */
export const XFRM_KEYS = {
  "ip daddr": 1,
  "ip6 daddr": 2,
  "ip saddr": 3,
  "ip6 saddr": 4,
  reqid: 5,
  spi: 6,
} as const;
export const XFRM_DIRECTIONS = { in: 0, out: 1 } as const;
export const TUNNEL_KEYS = { path: 0, id: 1 } as const;
/** NFT_OBJECT_* */
export const OBJECT_TYPES = {
  counter: 1,
  quota: 2,
  "ct helper": 3,
  limit: 4,
  connlimit: 5,
  tunnel: 6,
  "ct timeout": 7,
  secmark: 8,
  "ct expectation": 9,
  synproxy: 10,
} as const;

// ── Descriptions ─────────────────────────────────────────────────────────────────────────────────────────────────

type Valued<T extends Table> = AttributesOf<AttributeSet<T>>;
type Simplify<T> = { [K in keyof T]: T[K] };

/** An attribute that the description does not know, kept as it came. */
export interface UnknownField {
  readonly number: number;
  readonly bytes: string;
}

/** An attribute set of which some attributes always stand: their absence is a DecodeError. */
export interface Description<T extends Table = Table, R extends keyof T & string = keyof T & string> {
  readonly attributes: AttributeSet<T>;
  readonly required: readonly R[];
}

/** The plain value of a description. */
export type ValueOf<D> =
  D extends Description<infer T, infer R>
    ? Simplify<
        { readonly [K in R]: NonNullable<Valued<T>[K]> } & {
          readonly [K in Exclude<keyof T, R>]?: NonNullable<Valued<T>[K]>;
        } & { readonly unknown?: readonly UnknownField[] }
      >
    : never;

function described<const T extends Table, const R extends keyof T & string = never>(
  table: T,
  required: readonly R[] = [],
): Description<T, R> {
  return { attributes: new AttributeSet(table), required };
}

// oxlint-disable-next-line typescript/no-explicit-any -- descriptions of different tables; ValueOf recovers each
type Descriptions = Readonly<Record<string, Description<any, any>>>;

/** An expression that these descriptions do not know. */
export interface OtherExpression {
  readonly kind: "other";
  /** The kernel's name of the expression. */
  readonly name: string;
  /** NFTA_EXPR_DATA as it came, hexadecimal. */
  readonly data: string;
}

type ExpressionOf<D extends Descriptions> =
  | { [K in keyof D & string]: Simplify<{ readonly kind: K } & ValueOf<D[K]>> }[keyof D & string]
  | OtherExpression;

/**
 * Codec for one expression (nested: nft_expr_attributes) of those described.
 * The value is the attributes' value with `kind` beside them.
 */
function expressionCodec<const D extends Descriptions>(descriptions: D): Codec<ExpressionOf<D>> {
  const variants = Object.fromEntries(
    Object.entries(descriptions).map(([name, one]) => [name, one.attributes]),
  );
  const set = new AttributeSet({ expr: tagged("NFTA_EXPR_NAME", 1, "NFTA_EXPR_DATA", 2, variants) });
  const known = new Map(
    Object.entries(descriptions).map(([kind, { attributes, required }]) => [
      nameHash(Buffer.from(kind), 0, kind.length),
      { kind, attributes, required },
    ]),
  );
  const seen = new SeenExpressions(known);
  if (known.size !== Object.keys(descriptions).length) throw new EncodeError("", "two names share a hash");
  return {
    kind: "nft_expr",
    nested: true,
    write(writer, value) {
      if (value.kind === "other") {
        const { name, data: raw } = value as OtherExpression;
        set.write(writer, { expr: { kind: "other", name, data: Buffer.from(raw, "hex") } });
        return;
      }
      const { kind, unknown, ...fields } = value as { kind: string; unknown?: readonly UnknownField[] };
      const kept = unknown?.map((field) => ({
        number: field.number,
        bytes: Buffer.from(field.bytes, "hex"),
      }));
      const description = Object.hasOwn(descriptions, kind) ? descriptions[kind] : undefined;
      if (description === undefined)
        throw new EncodeError("NFTA_EXPR_NAME", `"${kind}" is no expression we know`);
      requireFields(description, fields, EncodeError, kind);
      const attributes = kept === undefined ? fields : { ...fields, unknown: kept };
      set.write(writer, { expr: { kind, data: attributes } });
    },
    read: (wire, start, end) => seen.read(wire, start, end) as ExpressionOf<D>,
    set,
    pathAt: (wire, start, end, offset) => set.pathAt(wire, start, end, offset),
    nameOf: (number) => set.nameOf(number),
  };
}

interface Known {
  readonly kind: string;
  // oxlint-disable-next-line typescript/no-explicit-any -- see Descriptions
  readonly attributes: AttributeSet<any>;
  readonly required: readonly string[];
}

/** A number for a name, so that reading one makes no string of it. */
function nameHash(bytes: Uint8Array, start: number, end: number): number {
  let hash = 0;
  for (let at = start; at < end && bytes[at] !== 0; at++) hash = (hash * 31 + bytes[at]!) | 0;
  return hash;
}

function isName(name: string, bytes: Uint8Array, start: number, end: number): boolean {
  for (let i = 0; i < name.length; i++) if (bytes[start + i] !== name.charCodeAt(i)) return false;
  return start + name.length >= end || bytes[start + name.length] === 0;
}

/** Expressions longer than this are too different from one another to be worth remembering. */
const SEEN_BYTES = 96;
const SEEN_EXPRESSIONS = 4096;

/**
 * A ruleset says the same things over and over: `meta l4proto tcp`, `accept`. An expression whose bytes were seen
 * before is the value it was then, which spares the work and the memory. Values are never changed.
 */
class SeenExpressions {
  readonly #seen = new Map<number, { readonly bytes: Uint8Array; readonly value: unknown }>();

  constructor(readonly known: ReadonlyMap<number, Known>) {}

  read(wire: Wire, start: number, end: number): unknown {
    if (end - start > SEEN_BYTES) return readExpression(this.known, wire, start, end);
    const { bytes } = wire;
    let hash = end - start;
    for (let at = start; at < end; at++) hash = (Math.imul(hash, 31) + bytes[at]!) | 0;
    const found = this.#seen.get(hash);
    if (found !== undefined && isSame(found.bytes, bytes, start, end)) return found.value;
    const value = readExpression(this.known, wire, start, end);
    // Counters and their like are hardly ever the same twice.
    if ((value as { readonly kind: string }).kind in STATEFUL) return value;
    if (this.#seen.size >= SEEN_EXPRESSIONS) this.#seen.clear();
    this.#seen.set(hash, { bytes: bytes.slice(start, end), value });
    return value;
  }
}

function isSame(known: Uint8Array, bytes: Uint8Array, start: number, end: number): boolean {
  if (known.length !== end - start) return false;
  for (let at = 0; at < known.length; at++) if (known[at] !== bytes[start + at]) return false;
  return true;
}

/** The same as the tagged pair of attributes would give, in one pass: a large ruleset is little but expressions. */
function readExpression(known: ReadonlyMap<number, Known>, wire: Wire, start: number, end: number): unknown {
  let nameStart = -1;
  let nameEnd = -1;
  let dataStart = 0;
  let dataEnd = 0;
  for (let at = start; at < end;) {
    const length = attributeLength(wire, at, end);
    const number = wire.view.getUint16(at + 2, true) & 0x3fff;
    if (number === 1) {
      nameStart = at + 4;
      nameEnd = at + length;
    } else if (number === 2) {
      dataStart = at + 4;
      dataEnd = at + length;
    }
    at += align4(length);
  }
  if (nameStart < 0) throw new DecodeError("NFTA_EXPR_NAME", "is missing");
  const found = known.get(nameHash(wire.bytes, nameStart, nameEnd));
  if (found === undefined || !isName(found.kind, wire.bytes, nameStart, nameEnd)) {
    return {
      kind: "other",
      name: string.read(wire, nameStart, nameEnd),
      data: hexText(wire.bytes, dataStart, dataEnd),
    };
  }
  const value: Record<string, unknown> = { kind: found.kind };
  try {
    found.attributes.read(wire, dataStart, dataEnd, value);
  } catch (error) {
    throw error instanceof DecodeError ? error.within(`NFTA_EXPR_DATA(${found.kind})`) : error;
  }
  requireFields(found, value, DecodeError, found.kind);
  if (value["unknown"] !== undefined) value["unknown"] = plainUnknown(value["unknown"]);
  return value;
}

function plainUnknown(unknown: unknown): UnknownField[] {
  return (unknown as readonly { number: number; bytes: Uint8Array }[]).map((field) => ({
    number: field.number,
    bytes: hexText(field.bytes),
  }));
}

function requireFields(
  description: Descriptions[string],
  fields: Readonly<Record<string, unknown>>,
  Failure: typeof DecodeError | typeof EncodeError,
  kind: string,
): void {
  for (const field of description.required) {
    if (fields[field] !== undefined) continue;
    const name = (description.attributes.table as Table)[field]?.name ?? field;
    throw new Failure(`NFTA_EXPR_DATA(${kind}).${name}`, "is missing");
  }
}

// ── The expressions ──────────────────────────────────────────────────────────────────────────────────────────────

/** Expressions with state of their own. Set elements and dynset may hold them; so may rules. */
const STATEFUL = {
  counter: described(
    {
      bytes: attribute("NFTA_COUNTER_BYTES", 1, number64),
      packets: attribute("NFTA_COUNTER_PACKETS", 2, number64),
    },
    ["bytes", "packets"],
  ),
  limit: described(
    {
      /** Units of `type` in each `unitSeconds`. */
      rate: attribute("NFTA_LIMIT_RATE", 1, number64),
      unitSeconds: attribute("NFTA_LIMIT_UNIT", 2, number64),
      burst: attribute("NFTA_LIMIT_BURST", 3, be32),
      type: attribute("NFTA_LIMIT_TYPE", 4, named(LIMIT_TYPES)),
      flags: attribute("NFTA_LIMIT_FLAGS", 5, bits(INVERT)),
    },
    ["rate", "unitSeconds"],
  ),
  quota: described(
    {
      bytes: attribute("NFTA_QUOTA_BYTES", 1, number64),
      flags: attribute("NFTA_QUOTA_FLAGS", 2, bits(QUOTA_FLAGS)),
      consumed: attribute("NFTA_QUOTA_CONSUMED", 4, number64),
    },
    ["bytes"],
  ),
  connlimit: described(
    {
      count: attribute("NFTA_CONNLIMIT_COUNT", 1, be32),
      flags: attribute("NFTA_CONNLIMIT_FLAGS", 2, bits(INVERT)),
    },
    ["count"],
  ),
  last: described({
    /** 1 once a packet came by. */
    set: attribute("NFTA_LAST_SET", 1, be32),
    /** Milliseconds since then. */
    msecs: attribute("NFTA_LAST_MSECS", 2, number64),
  }),
} as const;

const PAYLOAD = described(
  {
    dreg: attribute("NFTA_PAYLOAD_DREG", 1, be32),
    base: attribute("NFTA_PAYLOAD_BASE", 2, named(PAYLOAD_BASES)),
    /** Bytes from the base. */
    offset: attribute("NFTA_PAYLOAD_OFFSET", 3, be32),
    length: attribute("NFTA_PAYLOAD_LEN", 4, be32),
    /** Present when the packet is written to. */
    sreg: attribute("NFTA_PAYLOAD_SREG", 5, be32),
    csumType: attribute("NFTA_PAYLOAD_CSUM_TYPE", 6, be32),
    csumOffset: attribute("NFTA_PAYLOAD_CSUM_OFFSET", 7, be32),
    csumFlags: attribute("NFTA_PAYLOAD_CSUM_FLAGS", 8, be32),
  },
  ["base", "offset", "length"],
);

const META = described(
  {
    dreg: attribute("NFTA_META_DREG", 1, be32),
    key: attribute("NFTA_META_KEY", 2, named(META_KEYS)),
    /** Present when the field is set. */
    sreg: attribute("NFTA_META_SREG", 3, be32),
  },
  ["key"],
);

const statefulExpression = expressionCodec(STATEFUL);
/** An expression with state of its own: counter, limit, quota, connlimit, last. */
export type StatefulExpression = ExpressionOf<typeof STATEFUL>;
export const statefulExpressions: Codec<readonly StatefulExpression[]> = listOf(statefulExpression, {
  name: "NFTA_LIST_ELEM",
  number: 1,
});
export { statefulExpression };

export const EXPRESSIONS = {
  ...STATEFUL,
  payload: PAYLOAD,
  meta: META,
  immediate: described(
    {
      dreg: attribute("NFTA_IMMEDIATE_DREG", 1, be32),
      data: attribute("NFTA_IMMEDIATE_DATA", 2, data),
    },
    ["dreg", "data"],
  ),
  cmp: described(
    {
      sreg: attribute("NFTA_CMP_SREG", 1, be32),
      op: attribute("NFTA_CMP_OP", 2, named(CMP_OPS)),
      data: attribute("NFTA_CMP_DATA", 3, value),
    },
    ["sreg", "op", "data"],
  ),
  range: described(
    {
      sreg: attribute("NFTA_RANGE_SREG", 1, be32),
      op: attribute("NFTA_RANGE_OP", 2, named(RANGE_OPS)),
      from: attribute("NFTA_RANGE_FROM_DATA", 3, value),
      to: attribute("NFTA_RANGE_TO_DATA", 4, value),
    },
    ["sreg", "op", "from", "to"],
  ),
  bitwise: described(
    {
      sreg: attribute("NFTA_BITWISE_SREG", 1, be32),
      dreg: attribute("NFTA_BITWISE_DREG", 2, be32),
      length: attribute("NFTA_BITWISE_LEN", 3, be32),
      /** dreg = (sreg & mask) ^ xor */
      mask: attribute("NFTA_BITWISE_MASK", 4, value),
      xor: attribute("NFTA_BITWISE_XOR", 5, value),
      op: attribute("NFTA_BITWISE_OP", 6, named(BITWISE_OPS)),
      /** How far to shift, or the other operand. */
      data: attribute("NFTA_BITWISE_DATA", 7, value),
      sreg2: attribute("NFTA_BITWISE_SREG2", 8, be32),
    },
    ["sreg", "dreg", "length"],
  ),
  byteorder: described(
    {
      sreg: attribute("NFTA_BYTEORDER_SREG", 1, be32),
      dreg: attribute("NFTA_BYTEORDER_DREG", 2, be32),
      op: attribute("NFTA_BYTEORDER_OP", 3, named(BYTEORDER_OPS)),
      length: attribute("NFTA_BYTEORDER_LEN", 4, be32),
      size: attribute("NFTA_BYTEORDER_SIZE", 5, be32),
    },
    ["sreg", "dreg", "op", "length", "size"],
  ),
  lookup: described(
    {
      set: attribute("NFTA_LOOKUP_SET", 1, string),
      sreg: attribute("NFTA_LOOKUP_SREG", 2, be32),
      /** Where the map's data goes; 0 is the verdict register (a vmap); absent for a set. */
      dreg: attribute("NFTA_LOOKUP_DREG", 3, be32),
      /** For a set made in the same transaction. Never read back. */
      setId: attribute("NFTA_LOOKUP_SET_ID", 4, be32),
      flags: attribute("NFTA_LOOKUP_FLAGS", 5, bits(INVERT)),
    },
    ["set", "sreg"],
  ),
  dynset: described(
    {
      set: attribute("NFTA_DYNSET_SET_NAME", 1, string),
      setId: attribute("NFTA_DYNSET_SET_ID", 2, be32),
      op: attribute("NFTA_DYNSET_OP", 3, named(DYNSET_OPS)),
      sregKey: attribute("NFTA_DYNSET_SREG_KEY", 4, be32),
      sregData: attribute("NFTA_DYNSET_SREG_DATA", 5, be32),
      timeoutMs: attribute("NFTA_DYNSET_TIMEOUT", 6, number64),
      expression: attribute("NFTA_DYNSET_EXPR", 7, statefulExpression),
      flags: attribute("NFTA_DYNSET_FLAGS", 9, bits({ inv: 1, expr: 2 })),
      expressions: attribute("NFTA_DYNSET_EXPRESSIONS", 10, statefulExpressions),
    },
    ["set", "op", "sregKey"],
  ),
  exthdr: described(
    {
      dreg: attribute("NFTA_EXTHDR_DREG", 1, be32),
      /** IPv6 next header, TCP or IP option kind, SCTP chunk type. */
      type: attribute("NFTA_EXTHDR_TYPE", 2, u8),
      offset: attribute("NFTA_EXTHDR_OFFSET", 3, be32),
      length: attribute("NFTA_EXTHDR_LEN", 4, be32),
      flags: attribute("NFTA_EXTHDR_FLAGS", 5, bits({ present: 1 })),
      op: attribute("NFTA_EXTHDR_OP", 6, named(EXTHDR_OPS)),
      sreg: attribute("NFTA_EXTHDR_SREG", 7, be32),
    },
    ["type"],
  ),
  rt: described(
    { dreg: attribute("NFTA_RT_DREG", 1, be32), key: attribute("NFTA_RT_KEY", 2, named(RT_KEYS)) },
    ["dreg", "key"],
  ),
  socket: described(
    {
      key: attribute("NFTA_SOCKET_KEY", 1, named(SOCKET_KEYS)),
      dreg: attribute("NFTA_SOCKET_DREG", 2, be32),
      level: attribute("NFTA_SOCKET_LEVEL", 3, be32),
    },
    ["key", "dreg"],
  ),
  hash: described(
    {
      sreg: attribute("NFTA_HASH_SREG", 1, be32),
      dreg: attribute("NFTA_HASH_DREG", 2, be32),
      length: attribute("NFTA_HASH_LEN", 3, be32),
      modulus: attribute("NFTA_HASH_MODULUS", 4, be32),
      seed: attribute("NFTA_HASH_SEED", 5, be32),
      offset: attribute("NFTA_HASH_OFFSET", 6, be32),
      type: attribute("NFTA_HASH_TYPE", 7, named(HASH_TYPES)),
    },
    ["dreg", "modulus"],
  ),
  ct: described(
    {
      dreg: attribute("NFTA_CT_DREG", 1, be32),
      key: attribute("NFTA_CT_KEY", 2, named(CT_KEYS)),
      direction: attribute("NFTA_CT_DIRECTION", 3, named(CT_DIRECTIONS, u8)),
      sreg: attribute("NFTA_CT_SREG", 4, be32),
    },
    ["key"],
  ),
  flow_offload: described({ flowtable: attribute("NFTA_FLOW_TABLE_NAME", 1, string) }, ["flowtable"]),
  log: described({
    group: attribute("NFTA_LOG_GROUP", 1, be16),
    prefix: attribute("NFTA_LOG_PREFIX", 2, string),
    snaplen: attribute("NFTA_LOG_SNAPLEN", 3, be32),
    queueThreshold: attribute("NFTA_LOG_QTHRESHOLD", 4, be16),
    level: attribute("NFTA_LOG_LEVEL", 5, named(LOG_LEVELS)),
    flags: attribute("NFTA_LOG_FLAGS", 6, bits(LOG_FLAGS)),
  }),
  queue: described({
    number: attribute("NFTA_QUEUE_NUM", 1, be16),
    total: attribute("NFTA_QUEUE_TOTAL", 2, be16),
    flags: attribute("NFTA_QUEUE_FLAGS", 3, bits(QUEUE_FLAGS, be16)),
    sregNumber: attribute("NFTA_QUEUE_SREG_QNUM", 4, be32),
  }),
  reject: described(
    {
      type: attribute("NFTA_REJECT_TYPE", 1, named(REJECT_TYPES)),
      code: attribute("NFTA_REJECT_ICMP_CODE", 2, u8),
    },
    ["type"],
  ),
  nat: described(
    {
      type: attribute("NFTA_NAT_TYPE", 1, named(NAT_TYPES)),
      family: attribute("NFTA_NAT_FAMILY", 2, named(EXPRESSION_FAMILIES)),
      sregAddrMin: attribute("NFTA_NAT_REG_ADDR_MIN", 3, be32),
      sregAddrMax: attribute("NFTA_NAT_REG_ADDR_MAX", 4, be32),
      sregProtoMin: attribute("NFTA_NAT_REG_PROTO_MIN", 5, be32),
      sregProtoMax: attribute("NFTA_NAT_REG_PROTO_MAX", 6, be32),
      flags: attribute("NFTA_NAT_FLAGS", 7, bits(NAT_FLAGS)),
    },
    ["type", "family"],
  ),
  masq: described({
    flags: attribute("NFTA_MASQ_FLAGS", 1, bits(NAT_FLAGS)),
    sregProtoMin: attribute("NFTA_MASQ_REG_PROTO_MIN", 2, be32),
    sregProtoMax: attribute("NFTA_MASQ_REG_PROTO_MAX", 3, be32),
  }),
  redir: described({
    sregProtoMin: attribute("NFTA_REDIR_REG_PROTO_MIN", 1, be32),
    sregProtoMax: attribute("NFTA_REDIR_REG_PROTO_MAX", 2, be32),
    flags: attribute("NFTA_REDIR_FLAGS", 3, bits(NAT_FLAGS)),
  }),
  tproxy: described(
    {
      family: attribute("NFTA_TPROXY_FAMILY", 1, named(EXPRESSION_FAMILIES)),
      sregAddr: attribute("NFTA_TPROXY_REG_ADDR", 2, be32),
      sregPort: attribute("NFTA_TPROXY_REG_PORT", 3, be32),
    },
    ["family"],
  ),
  dup: described({
    sregAddr: attribute("NFTA_DUP_SREG_ADDR", 1, be32),
    sregDev: attribute("NFTA_DUP_SREG_DEV", 2, be32),
  }),
  fwd: described({
    sregDev: attribute("NFTA_FWD_SREG_DEV", 1, be32),
    sregAddr: attribute("NFTA_FWD_SREG_ADDR", 2, be32),
    family: attribute("NFTA_FWD_NFPROTO", 3, named(EXPRESSION_FAMILIES)),
  }),
  objref: described({
    type: attribute("NFTA_OBJREF_IMM_TYPE", 1, named(OBJECT_TYPES)),
    name: attribute("NFTA_OBJREF_IMM_NAME", 2, string),
    sreg: attribute("NFTA_OBJREF_SET_SREG", 3, be32),
    set: attribute("NFTA_OBJREF_SET_NAME", 4, string),
    setId: attribute("NFTA_OBJREF_SET_ID", 5, be32),
  }),
  fib: described(
    {
      dreg: attribute("NFTA_FIB_DREG", 1, be32),
      result: attribute("NFTA_FIB_RESULT", 2, named(FIB_RESULTS)),
      flags: attribute("NFTA_FIB_FLAGS", 3, bits(FIB_FLAGS)),
    },
    ["dreg", "result"],
  ),
  osf: described(
    {
      dreg: attribute("NFTA_OSF_DREG", 1, be32),
      ttl: attribute("NFTA_OSF_TTL", 2, u8),
      flags: attribute("NFTA_OSF_FLAGS", 3, bits(OSF_FLAGS)),
    },
    ["dreg"],
  ),
  synproxy: described({
    mss: attribute("NFTA_SYNPROXY_MSS", 1, be16),
    wscale: attribute("NFTA_SYNPROXY_WSCALE", 2, u8),
    flags: attribute("NFTA_SYNPROXY_FLAGS", 3, bits(SYNPROXY_FLAGS)),
  }),
  xfrm: described(
    {
      dreg: attribute("NFTA_XFRM_DREG", 1, be32),
      key: attribute("NFTA_XFRM_KEY", 2, named(XFRM_KEYS)),
      direction: attribute("NFTA_XFRM_DIR", 3, named(XFRM_DIRECTIONS, u8)),
      spnum: attribute("NFTA_XFRM_SPNUM", 4, be32),
    },
    ["dreg", "key", "direction"],
  ),
  numgen: described(
    {
      dreg: attribute("NFTA_NG_DREG", 1, be32),
      modulus: attribute("NFTA_NG_MODULUS", 2, be32),
      type: attribute("NFTA_NG_TYPE", 3, named(NUMGEN_TYPES)),
      offset: attribute("NFTA_NG_OFFSET", 4, be32),
    },
    ["dreg", "modulus", "type"],
  ),
  tunnel: described(
    {
      key: attribute("NFTA_TUNNEL_KEY", 1, named(TUNNEL_KEYS)),
      dreg: attribute("NFTA_TUNNEL_DREG", 2, be32),
      mode: attribute("NFTA_TUNNEL_MODE", 3, be32),
    },
    ["key", "dreg"],
  ),
  notrack: described({}),
  inner: described(
    {
      number: attribute("NFTA_INNER_NUM", 1, be32),
      type: attribute("NFTA_INNER_TYPE", 2, be32),
      flags: attribute("NFTA_INNER_FLAGS", 3, be32),
      headerSize: attribute("NFTA_INNER_HDRSIZE", 4, be32),
      expression: attribute("NFTA_INNER_EXPR", 5, expressionCodec({ payload: PAYLOAD, meta: META })),
    },
    ["expression"],
  ),
  /** An xtables match, as iptables-nft uses for what nf_tables cannot say. */
  match: described(
    {
      name: attribute("NFTA_MATCH_NAME", 1, string),
      revision: attribute("NFTA_MATCH_REV", 2, be32),
      info: attribute("NFTA_MATCH_INFO", 3, hex),
    },
    ["name", "revision", "info"],
  ),
  /** An xtables target. */
  target: described(
    {
      name: attribute("NFTA_TARGET_NAME", 1, string),
      revision: attribute("NFTA_TARGET_REV", 2, be32),
      info: attribute("NFTA_TARGET_INFO", 3, hex),
    },
    ["name", "revision", "info"],
  ),
} as const;

/** One expression of a rule, told apart by `kind`: the kernel's name of it. */
export type Expression = ExpressionOf<typeof EXPRESSIONS>;
export type ExpressionKind = Exclude<Expression["kind"], "other">;
/** The expression of one kind. */
export type ExpressionKinded<K extends Expression["kind"]> = Extract<Expression, { readonly kind: K }>;

export const expression: Codec<Expression> = expressionCodec(EXPRESSIONS);
export const expressions: Codec<readonly Expression[]> = listOf(expression, {
  name: "NFTA_LIST_ELEM",
  number: 1,
});
