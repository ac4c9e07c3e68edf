/**
 * Whether a table is still the one that was seen before, without understanding it: a digest of everything that
 * identifies its contents, and nothing that counts. A rule is never changed in place (a replaced one gets another
 * handle), so its handle and its place stand for it; an element has no handle, so its key and data do.
 *
 * Nothing here is decoded beyond the attributes' numbers: this file is for those who ask often and have little time.
 */
import {
  attribute,
  attributeLength,
  AttributeSet,
  NLA_HDRLEN,
  NLA_TYPE_MASK,
} from "../../linux/netlink/attributes.ts";
import { string } from "../../linux/netlink/codec.ts";
import type { NetlinkConnection } from "../netlink/connection.ts";
import { align4, type Wire } from "../../linux/netlink/wire.ts";
import { NLMSG_DONE, request, type MessageSpec } from "../../linux/netlink/message.ts";
import { NetlinkError } from "../../linux/netlink/netlink-error.ts";
import { rulesetGeneration } from "./generation.ts";
import { NFNL_SUBSYS_NFTABLES, nfgenmsg, nfnlType } from "../../linux/netlink/nfnetlink.ts";
import { NFPROTO } from "../../linux/netfilter.ts";
import { decodeUtf8 } from "../../platform/bytes.ts";
import type { Hasher } from "../../platform/platform.ts";
import { platform } from "#platform";

/** NFTA_*_TABLE is 1 in every message; NFTA_SET_ELEM_LIST_SET is 2. */
const filter = new AttributeSet(() => ({
  table: attribute("NFTA_TABLE", 1, string),
  set: attribute("NFTA_SET", 2, string),
}));

function listing(name: string, number: number) {
  const type = nfnlType(NFNL_SUBSYS_NFTABLES, number);
  return { name, type, header: nfgenmsg, attributes: filter } as const satisfies MessageSpec;
}

/** What is listed, and which attributes of it identify it (linux/netfilter/nf_tables.h). */
const TABLES = { ask: listing("NFT_MSG_GETTABLE", 1), name: 1, identity: [1, 2, 4] } as const;
const CHAINS = { ask: listing("NFT_MSG_GETCHAIN", 4), name: 1, identity: [2, 3, 4, 5, 6, 7] } as const;
const RULES = { ask: listing("NFT_MSG_GETRULE", 7), name: 1, identity: [2, 3] } as const;
const SETS = { ask: listing("NFT_MSG_GETSET", 10), name: 1, identity: [2, 3, 16] } as const;
const ELEMENTS = listing("NFT_MSG_GETSETELEM", 13);
const NFTA_SET_NAME = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS = 3;
/** NFTA_SET_ELEM_KEY, _DATA, _FLAGS, _USERDATA, _KEY_END. */
const ELEMENT_IDENTITY: ReadonlySet<number> = new Set([1, 2, 3, 6, 10]);

/**
 * The digest of a table of family inet at this generation of the ruleset; undefined when there is no such table, or
 * the generation is another one by now.
 */
export function tableFingerprint(
  connection: NetlinkConnection,
  table: string,
  generation: number,
): string | undefined {
  const digest = digestOf(connection, table);
  return rulesetGeneration(connection) === generation ? digest : undefined;
}

/** undefined when there is no such table, or it changed while it was read. */
function digestOf(connection: NetlinkConnection, table: string): string | undefined {
  const hasher = platform.hasher("sha256");
  const sets: string[] = [];
  try {
    for (const what of [TABLES, CHAINS, RULES, SETS]) {
      let found = 0;
      const complete = each(
        connection,
        what.ask,
        what === TABLES || what === CHAINS ? {} : { table },
        (wire, attributes) => {
          if (textOf(wire, attributes.get(what.name)) !== table) return;
          found++;
          for (const number of what.identity) add(hasher, wire, number, attributes.get(number));
          if (what === SETS) sets.push(textOf(wire, attributes.get(NFTA_SET_NAME)));
        },
      );
      if (!complete || (what === TABLES && found === 0)) return undefined;
    }
    for (const set of sets) {
      hasher.update(`\n${set}\n`);
      if (
        !each(connection, ELEMENTS, { table, set }, (wire, attributes) =>
          addElements(hasher, wire, attributes),
        )
      ) {
        return undefined;
      }
    }
  } catch (error) {
    // The table, or a set of it, went away in between.
    if (error instanceof NetlinkError && (error.code === "ENOENT" || error.code === "EINTR"))
      return undefined;
    throw error;
  }
  return hasher.digestHex();
}

type Range = readonly [start: number, end: number];
type Attributes = ReadonlyMap<number, Range>;

/** False when the ruleset changed meanwhile. */
function each(
  connection: NetlinkConnection,
  ask: typeof ELEMENTS,
  attributes: { readonly table?: string; readonly set?: string },
  visit: (wire: Wire, attributes: Attributes) => void,
): boolean {
  const wanted = request(ask, "looking whether a table is as it was", { family: NFPROTO.inet }, attributes);
  let complete = true;
  for (const raw of connection.dumpRaw(wanted)) {
    if (raw.type === NLMSG_DONE) complete = !raw.interrupted;
    else visit(raw.wire, attributesIn(raw.wire, raw.start + nfgenmsg.size, raw.end));
  }
  return complete;
}

function attributesIn(wire: Wire, start: number, end: number): Attributes {
  const found = new Map<number, Range>();
  for (let at = start; at < end;) {
    const length = attributeLength(wire, at, end);
    found.set(wire.view.getUint16(at + 2, true) & NLA_TYPE_MASK, [at + NLA_HDRLEN, at + length]);
    at += align4(length);
  }
  return found;
}

function textOf(wire: Wire, range: Range | undefined): string {
  return range === undefined ? "" : decodeUtf8(wire.bytes.subarray(range[0], range[1] - 1));
}

function add(hasher: Hasher, wire: Wire, number: number, range: Range | undefined): void {
  if (range === undefined) return;
  hasher.update(`${number}:${range[1] - range[0]}:`);
  hasher.update(wire.bytes.subarray(range[0], range[1]));
}

/** The elements of one message: a list of nests, in an order that stays while the set does. */
function addElements(hasher: Hasher, wire: Wire, attributes: Attributes): void {
  const list = attributes.get(NFTA_SET_ELEM_LIST_ELEMENTS);
  if (list === undefined) return;
  for (let at = list[0]; at < list[1];) {
    const length = attributeLength(wire, at, list[1]);
    for (const [number, range] of attributesIn(wire, at + NLA_HDRLEN, at + length)) {
      if (ELEMENT_IDENTITY.has(number)) add(hasher, wire, number, range);
    }
    at += align4(length);
  }
}
