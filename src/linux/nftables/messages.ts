/** The messages of nf_tables and their attributes (include/uapi/linux/netfilter/nf_tables.h). */
import {
  attribute,
  AttributeSet,
  listOf,
  nested,
  repeated,
  type AttributeTable,
} from "../netlink/attributes.ts";
import { be16, be32, bytes, string, type Codec } from "../netlink/codec.ts";
import type { MessageSpec } from "../netlink/message.ts";
import { nfgenmsg, nfnlType, NFNL_SUBSYS_NFTABLES } from "../netlink/nfnetlink.ts";
import { OBJECT_TYPES } from "./enumerations.ts";
import { expressions, statefulExpression, statefulExpressions } from "./expressions.ts";
import { NFT_MSG_GETGEN, NFT_MSG_NEWGEN } from "./generation.ts";
import { CHAIN_FLAGS, SET_FLAGS, TABLE_FLAGS } from "./ruleset.ts";
import { COMMENT, notes, SET_COMMENT } from "./userdata.ts";
import { bits, data, hex, named, number64, value, verdict } from "./values.ts";

/** A signed 32-bit number in network order: hook priorities. */
export const beI32: Codec<number> = {
  kind: "be i32",
  write: (writer, number) => be32.write(writer, number >>> 0),
  read: (wire, start, end) => be32.read(wire, start, end) | 0,
};

export const tableAttributes = new AttributeSet(() => ({
  name: attribute("NFTA_TABLE_NAME", 1, string),
  flags: attribute("NFTA_TABLE_FLAGS", 2, bits(TABLE_FLAGS)),
  use: attribute("NFTA_TABLE_USE", 3, be32),
  handle: attribute("NFTA_TABLE_HANDLE", 4, number64),
  notes: attribute("NFTA_TABLE_USERDATA", 6, notes(COMMENT)),
  owner: attribute("NFTA_TABLE_OWNER", 7, be32),
}));

/** An element of NFTA_HOOK_DEVS: an interface, or (6.16) the beginning of interfaces' names. */
const deviceAttributes = new AttributeSet(() => ({
  names: repeated("NFTA_DEVICE_NAME", 1, string),
  prefixes: repeated("NFTA_DEVICE_PREFIX", 2, string),
}));

export const hookAttributes = new AttributeSet(() => ({
  number: attribute("NFTA_HOOK_HOOKNUM", 1, be32),
  priority: attribute("NFTA_HOOK_PRIORITY", 2, beI32),
  device: attribute("NFTA_HOOK_DEV", 3, string),
  devices: attribute("NFTA_HOOK_DEVS", 4, nested(deviceAttributes)),
}));

const counterAttributes = new AttributeSet(() => ({
  bytes: attribute("NFTA_COUNTER_BYTES", 1, number64),
  packets: attribute("NFTA_COUNTER_PACKETS", 2, number64),
}));

export const chainAttributes = new AttributeSet(() => ({
  table: attribute("NFTA_CHAIN_TABLE", 1, string),
  handle: attribute("NFTA_CHAIN_HANDLE", 2, number64),
  name: attribute("NFTA_CHAIN_NAME", 3, string),
  hook: attribute("NFTA_CHAIN_HOOK", 4, nested(hookAttributes)),
  policy: attribute("NFTA_CHAIN_POLICY", 5, be32),
  use: attribute("NFTA_CHAIN_USE", 6, be32),
  type: attribute("NFTA_CHAIN_TYPE", 7, string),
  counters: attribute("NFTA_CHAIN_COUNTERS", 8, nested(counterAttributes)),
  flags: attribute("NFTA_CHAIN_FLAGS", 10, bits(CHAIN_FLAGS)),
  id: attribute("NFTA_CHAIN_ID", 11, be32),
  notes: attribute("NFTA_CHAIN_USERDATA", 12, notes(COMMENT)),
}));

const compatAttributes = new AttributeSet(() => ({
  protocol: attribute("NFTA_RULE_COMPAT_PROTO", 1, be32),
  flags: attribute("NFTA_RULE_COMPAT_FLAGS", 2, be32),
}));

export const ruleAttributes = new AttributeSet(() => ({
  table: attribute("NFTA_RULE_TABLE", 1, string),
  chain: attribute("NFTA_RULE_CHAIN", 2, string),
  handle: attribute("NFTA_RULE_HANDLE", 3, number64),
  expressions: attribute("NFTA_RULE_EXPRESSIONS", 4, expressions),
  compat: attribute("NFTA_RULE_COMPAT", 5, nested(compatAttributes)),
  position: attribute("NFTA_RULE_POSITION", 6, number64),
  notes: attribute("NFTA_RULE_USERDATA", 7, notes(COMMENT)),
  id: attribute("NFTA_RULE_ID", 9, be32),
  positionId: attribute("NFTA_RULE_POSITION_ID", 10, be32),
  chainId: attribute("NFTA_RULE_CHAIN_ID", 11, be32),
}));

const fieldAttributes = new AttributeSet(() => ({ length: attribute("NFTA_SET_FIELD_LEN", 1, be32) }));

const setDescriptionAttributes = new AttributeSet(() => ({
  size: attribute("NFTA_SET_DESC_SIZE", 1, be32),
  fields: attribute(
    "NFTA_SET_DESC_CONCAT",
    2,
    listOf(nested(fieldAttributes), { name: "NFTA_LIST_ELEM", number: 1 }),
  ),
}));

export const setAttributes = new AttributeSet(() => ({
  table: attribute("NFTA_SET_TABLE", 1, string),
  name: attribute("NFTA_SET_NAME", 2, string),
  flags: attribute("NFTA_SET_FLAGS", 3, bits(SET_FLAGS)),
  keyType: attribute("NFTA_SET_KEY_TYPE", 4, be32),
  keyLength: attribute("NFTA_SET_KEY_LEN", 5, be32),
  dataType: attribute("NFTA_SET_DATA_TYPE", 6, be32),
  dataLength: attribute("NFTA_SET_DATA_LEN", 7, be32),
  policy: attribute("NFTA_SET_POLICY", 8, be32),
  description: attribute("NFTA_SET_DESC", 9, nested(setDescriptionAttributes)),
  id: attribute("NFTA_SET_ID", 10, be32),
  timeoutMs: attribute("NFTA_SET_TIMEOUT", 11, number64),
  gcIntervalMs: attribute("NFTA_SET_GC_INTERVAL", 12, be32),
  notes: attribute("NFTA_SET_USERDATA", 13, notes(SET_COMMENT)),
  objectType: attribute("NFTA_SET_OBJ_TYPE", 15, named(OBJECT_TYPES)),
  handle: attribute("NFTA_SET_HANDLE", 16, number64),
  expression: attribute("NFTA_SET_EXPR", 17, statefulExpression),
  expressions: attribute("NFTA_SET_EXPRESSIONS", 18, statefulExpressions),
}));

/** enum nft_set_elem_flags */
export const ELEMENT_FLAGS = { "interval-end": 1, catchall: 2 } as const;

export const elementAttributes = new AttributeSet(() => ({
  key: attribute("NFTA_SET_ELEM_KEY", 1, value),
  data: attribute("NFTA_SET_ELEM_DATA", 2, data),
  flags: attribute("NFTA_SET_ELEM_FLAGS", 3, bits(ELEMENT_FLAGS)),
  timeoutMs: attribute("NFTA_SET_ELEM_TIMEOUT", 4, number64),
  expiresMs: attribute("NFTA_SET_ELEM_EXPIRATION", 5, number64),
  notes: attribute("NFTA_SET_ELEM_USERDATA", 6, notes(COMMENT)),
  expression: attribute("NFTA_SET_ELEM_EXPR", 7, statefulExpression),
  object: attribute("NFTA_SET_ELEM_OBJREF", 9, string),
  keyEnd: attribute("NFTA_SET_ELEM_KEY_END", 10, value),
  expressions: attribute("NFTA_SET_ELEM_EXPRESSIONS", 11, statefulExpressions),
}));

export const elementListAttributes = new AttributeSet(() => ({
  table: attribute("NFTA_SET_ELEM_LIST_TABLE", 1, string),
  set: attribute("NFTA_SET_ELEM_LIST_SET", 2, string),
  elements: attribute(
    "NFTA_SET_ELEM_LIST_ELEMENTS",
    3,
    listOf(nested(elementAttributes), { name: "NFTA_LIST_ELEM", number: 1 }),
  ),
  setId: attribute("NFTA_SET_ELEM_LIST_SET_ID", 4, be32),
}));

export const objectAttributes = new AttributeSet(() => ({
  table: attribute("NFTA_OBJ_TABLE", 1, string),
  name: attribute("NFTA_OBJ_NAME", 2, string),
  type: attribute("NFTA_OBJ_TYPE", 3, be32),
  /** Its attributes depend on the type: see objects.ts. */
  data: attribute("NFTA_OBJ_DATA", 4, { ...bytes, nested: true }),
  use: attribute("NFTA_OBJ_USE", 5, be32),
  handle: attribute("NFTA_OBJ_HANDLE", 6, number64),
  notes: attribute("NFTA_OBJ_USERDATA", 8, notes(COMMENT)),
}));

const flowtableHookAttributes = new AttributeSet(() => ({
  number: attribute("NFTA_FLOWTABLE_HOOK_NUM", 1, be32),
  priority: attribute("NFTA_FLOWTABLE_HOOK_PRIORITY", 2, beI32),
  devices: attribute("NFTA_FLOWTABLE_HOOK_DEVS", 3, nested(deviceAttributes)),
}));

export const flowtableAttributes = new AttributeSet(() => ({
  table: attribute("NFTA_FLOWTABLE_TABLE", 1, string),
  name: attribute("NFTA_FLOWTABLE_NAME", 2, string),
  hook: attribute("NFTA_FLOWTABLE_HOOK", 3, nested(flowtableHookAttributes)),
  use: attribute("NFTA_FLOWTABLE_USE", 4, be32),
  handle: attribute("NFTA_FLOWTABLE_HANDLE", 5, number64),
  flags: attribute("NFTA_FLOWTABLE_FLAGS", 7, bits({ offload: 1, counter: 2 })),
}));

/** enum nft_trace_types */
export const TRACE_TYPES = { policy: 1, return: 2, rule: 3 } as const;

export const traceAttributes = new AttributeSet(() => ({
  table: attribute("NFTA_TRACE_TABLE", 1, string),
  chain: attribute("NFTA_TRACE_CHAIN", 2, string),
  ruleHandle: attribute("NFTA_TRACE_RULE_HANDLE", 3, number64),
  type: attribute("NFTA_TRACE_TYPE", 4, named(TRACE_TYPES)),
  verdict: attribute("NFTA_TRACE_VERDICT", 5, verdict),
  id: attribute("NFTA_TRACE_ID", 6, be32),
  linkHeader: attribute("NFTA_TRACE_LL_HEADER", 7, hex),
  networkHeader: attribute("NFTA_TRACE_NETWORK_HEADER", 8, hex),
  transportHeader: attribute("NFTA_TRACE_TRANSPORT_HEADER", 9, hex),
  iif: attribute("NFTA_TRACE_IIF", 10, be32),
  iifType: attribute("NFTA_TRACE_IIFTYPE", 11, be16),
  oif: attribute("NFTA_TRACE_OIF", 12, be32),
  oifType: attribute("NFTA_TRACE_OIFTYPE", 13, be16),
  mark: attribute("NFTA_TRACE_MARK", 14, be32),
  nfproto: attribute("NFTA_TRACE_NFPROTO", 15, be32),
  policy: attribute("NFTA_TRACE_POLICY", 16, be32),
}));

function message<const T extends AttributeTable>(
  name: string,
  number: number,
  attributes: AttributeSet<T>,
): MessageSpec<typeof nfgenmsg, T> {
  return { name, type: nfnlType(NFNL_SUBSYS_NFTABLES, number), header: nfgenmsg, attributes };
}

/** enum nf_tables_msg_types */
export const NFT_MSG = {
  newTable: message("NFT_MSG_NEWTABLE", 0, tableAttributes),
  getTable: message("NFT_MSG_GETTABLE", 1, tableAttributes),
  delTable: message("NFT_MSG_DELTABLE", 2, tableAttributes),
  newChain: message("NFT_MSG_NEWCHAIN", 3, chainAttributes),
  getChain: message("NFT_MSG_GETCHAIN", 4, chainAttributes),
  delChain: message("NFT_MSG_DELCHAIN", 5, chainAttributes),
  newRule: message("NFT_MSG_NEWRULE", 6, ruleAttributes),
  getRule: message("NFT_MSG_GETRULE", 7, ruleAttributes),
  delRule: message("NFT_MSG_DELRULE", 8, ruleAttributes),
  newSet: message("NFT_MSG_NEWSET", 9, setAttributes),
  getSet: message("NFT_MSG_GETSET", 10, setAttributes),
  delSet: message("NFT_MSG_DELSET", 11, setAttributes),
  newElements: message("NFT_MSG_NEWSETELEM", 12, elementListAttributes),
  getElements: message("NFT_MSG_GETSETELEM", 13, elementListAttributes),
  delElements: message("NFT_MSG_DELSETELEM", 14, elementListAttributes),
  newGeneration: NFT_MSG_NEWGEN,
  getGeneration: NFT_MSG_GETGEN,
  trace: message("NFT_MSG_TRACE", 17, traceAttributes),
  newObject: message("NFT_MSG_NEWOBJ", 18, objectAttributes),
  getObject: message("NFT_MSG_GETOBJ", 19, objectAttributes),
  delObject: message("NFT_MSG_DELOBJ", 20, objectAttributes),
  newFlowtable: message("NFT_MSG_NEWFLOWTABLE", 22, flowtableAttributes),
  getFlowtable: message("NFT_MSG_GETFLOWTABLE", 23, flowtableAttributes),
  delFlowtable: message("NFT_MSG_DELFLOWTABLE", 24, flowtableAttributes),
} as const;

/** Multicast groups of nfnetlink (enum nfnetlink_groups). */
export const NFNLGRP_NFTABLES = 7;
export const NFNLGRP_NFTRACE = 9;
