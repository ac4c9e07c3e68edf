/**
 * Expressions: what a rule is made of. Each is described once, by its attributes; the type, the decoder, the encoder
 * and the names in errors follow from that description. A rule is a list of expressions that work on sixteen 4-byte
 * registers: some load (payload, meta, ct), some compare (cmp, range, lookup), some act (immediate, nat, counter).
 */
import { attribute, listOf } from "../netlink/attributes.ts";
import { be16, be32, string, u8, type Codec } from "../netlink/codec.ts";
import {
  BITWISE_OPS,
  BYTEORDER_OPS,
  CMP_OPS,
  CT_DIRECTIONS,
  CT_KEYS,
  DYNSET_OPS,
  EXPRESSION_FAMILIES,
  EXTHDR_OPS,
  FIB_FLAGS,
  FIB_RESULTS,
  HASH_TYPES,
  INVERT,
  LIMIT_TYPES,
  LOG_FLAGS,
  LOG_LEVELS,
  META_KEYS,
  NAT_TYPES,
  NUMGEN_TYPES,
  OBJECT_TYPES,
  OSF_FLAGS,
  PAYLOAD_BASES,
  QUEUE_FLAGS,
  QUOTA_FLAGS,
  RANGE_OPS,
  REJECT_TYPES,
  RT_KEYS,
  SOCKET_KEYS,
  SYNPROXY_FLAGS,
  TUNNEL_KEYS,
  XFRM_DIRECTIONS,
  XFRM_KEYS,
} from "./enumerations.ts";
import { described, expressionCodec, type ExpressionOf } from "./expression-codec.ts";
import { bits, data, hex, named, number64, value } from "./values.ts";
import { NAT_FLAGS } from "../netfilter.ts";

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
/** The expression of one kind. */
export type ExpressionKinded<K extends Expression["kind"]> = Extract<Expression, { readonly kind: K }>;

export const expression: Codec<Expression> = expressionCodec(EXPRESSIONS);
export const expressions: Codec<readonly Expression[]> = listOf(expression, {
  name: "NFTA_LIST_ELEM",
  number: 1,
});
