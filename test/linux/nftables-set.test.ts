/** How sets and their elements are spelled, so that the oldest kernel with the feature understands it. */
import { expect, test } from "bun:test";
import { readMessages, writeMessage } from "../../src/linux/netlink/message.ts";
import { Writer } from "../../src/linux/netlink/wire.ts";
import { addElements, addSet, type SetSpec } from "../../src/linux/nftables/commands.ts";
import type { RulesetChange } from "../../src/linux/nftables/transaction.ts";
import * as rule from "../../src/linux/nftables/rule-builder.ts";
import { lackTodo } from "../../src/nat/backends/nftables/refusal.ts";

const NFGENMSG_BYTES = 4;
/** include/uapi/linux/netfilter/nf_tables.h */
const NFTA_SET_FLAGS = 3;
const NFTA_SET_EXPR = 17;
const NFTA_SET_EXPRESSIONS = 18;
const NFT_SET_EXPR = 0x100;
const NFTA_SET_ELEM_LIST_ELEMENTS = 3;
const NFTA_SET_ELEM_EXPR = 7;
const NFTA_SET_ELEM_EXPRESSIONS = 11;

/** Attributes between two places, as they are sent, by their numbers. */
function attributesOf(bytes: Uint8Array): Map<number, Uint8Array> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found = new Map<number, Uint8Array>();
  for (let at = 0; at < bytes.length;) {
    const length = view.getUint16(at, true);
    found.set(view.getUint16(at + 2, true) & 0x3fff, bytes.subarray(at + 4, at + length));
    at += Math.ceil(length / 4) * 4;
  }
  return found;
}

function sent(change: RulesetChange): Map<number, Uint8Array> {
  const writer = new Writer();
  writeMessage(writer, change, 1);
  const [message] = readMessages(writer.bytes.slice(0, writer.length));
  return attributesOf(message!.wire.bytes.subarray(message!.start + NFGENMSG_BYTES, message!.end));
}

function setWith(count: number): SetSpec {
  const expressions = Array.from({ length: count }, () => rule.counter());
  return {
    family: "inet",
    table: "t",
    set: "s",
    type: "ipv4_addr",
    ...(count === 0 ? {} : { expressions }),
  };
}

test("a set with one counter is what Linux 5.7 understands; a list and its flag are of 5.11", () => {
  for (const [count, single, list, flag] of [
    [0, false, false, 0],
    [1, true, false, 0],
    [2, false, true, NFT_SET_EXPR],
  ] as const) {
    const attributes = sent(addSet(setWith(count)));
    const flags = attributes.get(NFTA_SET_FLAGS);
    expect({
      count,
      single: attributes.has(NFTA_SET_EXPR),
      list: attributes.has(NFTA_SET_EXPRESSIONS),
      flag: flags === undefined ? 0 : Buffer.from(flags).readUInt32BE() & NFT_SET_EXPR,
    }).toEqual({ count, single, list, flag });
  }
});

test("an element with one counter likewise", () => {
  for (const count of [0, 1, 2]) {
    const set = setWith(count);
    const [change] = addElements(set, [{ key: "10.0.0.1", expressions: set.expressions ?? [] }]);
    const [element] = attributesOf(sent(change!).get(NFTA_SET_ELEM_LIST_ELEMENTS)!).values();
    const attributes = attributesOf(element!);
    expect([count, attributes.has(NFTA_SET_ELEM_EXPR)]).toEqual([count, count === 1]);
    expect([count, attributes.has(NFTA_SET_ELEM_EXPRESSIONS)]).toEqual([count, count === 2]);
  }
});

test("a kernel that is too old is told by its version, another by its modules; both by the other backend", () => {
  for (const release of ["5.4.0-216-generic", "4.18.0-553.el8", "5.6.19", "3.10"]) {
    expect(lackTodo(release)).toContain(`Linux ${release}, and the backend nftables needs 5.7`);
  }
  for (const release of ["5.7.0", "5.10.0-32-amd64", "6.18.44", "10.1"]) {
    expect(lackTodo(release)).toContain("load the modules");
  }
  for (const release of ["5.4.0", "6.1.0"]) expect(lackTodo(release)).toContain("backend iptables");
});
