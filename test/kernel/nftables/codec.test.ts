/** Expressions and messages: what is written is read back; bytes that are wrong end in a DecodeError, never worse. */
import { expect, test } from "bun:test";
import * as fc from "fast-check";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Codec } from "../../../src/linux/netlink/codec.ts";
import { decode, readMessages, request, writeMessage } from "../../../src/linux/netlink/message.ts";
import { DecodeError, Wire, Writer } from "../../../src/linux/netlink/wire.ts";
import { EXPRESSIONS, expression, type Expression } from "../../../src/linux/nftables/expressions.ts";
import { NFT_MSG } from "../../../src/linux/nftables/messages.ts";
import type { Family, Rule, Table } from "../../../src/linux/nftables/ruleset.ts";
import { iptablesText, ruleText, tableText } from "../../../src/linux/nftables/text/ruleset.ts";
import { ask, testWith } from "../../support/witness.ts";
import { freshNamespace } from "../../support/world.ts";
import { CORPUS, readRuleset } from "./ruleset-world.ts";

const hex = (maxLength: number): fc.Arbitrary<string> =>
  fc.uint8Array({ minLength: 1, maxLength }).map((bytes) => Buffer.from(bytes).toString("hex"));
const text = fc.stringMatching(/^[a-z][a-z0-9_.-]{0,20}$/);
const verdict = fc.oneof(
  fc.constantFrom("accept" as const, "drop" as const, "return" as const).map((name) => ({ verdict: name })),
  text.map((chain) => ({ verdict: "jump" as const, chain })),
);

interface Described extends Codec<unknown> {
  readonly names?: readonly string[];
}

/** Values of one attribute, by what its codec says about itself. */
function valueOf(codec: Described): fc.Arbitrary<unknown> {
  const names = codec.names ?? [];
  switch (codec.kind.split(" ")[0]) {
    case "named":
      return fc.constantFrom(...names);
    case "bits":
      // Read back in ascending order of the bits, which is how the tables are written.
      return fc.subarray([...names]);
    case "u8":
      return fc.nat({ max: 255 });
    case "be16":
      return fc.nat({ max: 65_535 });
    case "be32":
      return fc.nat({ max: 0xffffffff });
    case "be64":
      return fc.nat({ max: Number.MAX_SAFE_INTEGER });
    case "string":
      return text;
    case "hex":
      return hex(60);
    case "nft_data":
      return codec.kind === "nft_data value"
        ? hex(32)
        : fc.oneof(
            hex(32).map((value) => ({ value })),
            verdict,
          );
    case "nft_expr":
      return fc.constant({ kind: "counter", bytes: 1, packets: 2 });
    default:
      return fc.constant([{ kind: "counter", bytes: 1, packets: 2 }]);
  }
}

const expressions = fc.oneof(
  ...Object.entries(EXPRESSIONS)
    .filter(([kind]) => kind !== "inner")
    .map(([kind, { attributes, required }]) => {
      const fields = Object.entries(attributes.table as Record<string, { readonly codec: Described }>);
      const values = fields.map(([name, { codec }]) => [name, valueOf(codec)] as const);
      return fc
        .record(Object.fromEntries(values), { requiredKeys: [...required] })
        .map((value) => ({ kind, ...value }) as unknown as Expression);
    }),
);

function written(value: Expression): Uint8Array {
  const writer = new Writer();
  expression.write(writer, value);
  return writer.done().slice();
}

test("an expression reads back as it was written", () => {
  fc.assert(
    fc.property(expressions, (value) => {
      const bytes = written(value);
      expect(expression.read(new Wire(bytes), 0, bytes.length)).toEqual(value);
    }),
    { numRuns: 1000 },
  );
});

test("an unknown expression and an unknown attribute are kept as they came", () => {
  const unknown: Expression = { kind: "other", name: "hologram", data: "0800010000000005" };
  const bytes = written(unknown);
  expect(expression.read(new Wire(bytes), 0, bytes.length)).toEqual(unknown);
  const extended: Expression = {
    kind: "masq",
    flags: ["random"],
    unknown: [{ number: 77, bytes: "cafe0000" }],
  };
  const more = written(extended);
  expect(expression.read(new Wire(more), 0, more.length)).toEqual(extended);
});

test("a verdict from a newer kernel keeps its number", () => {
  const value: Expression = { kind: "immediate", dreg: 0, data: { verdict: "#77" } };
  const bytes = written(value);
  expect(expression.read(new Wire(bytes), 0, bytes.length)).toEqual(value);
});

test("broken expressions end in a DecodeError", () => {
  fc.assert(
    fc.property(
      expressions,
      fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { maxLength: 8 }),
      fc.nat(),
      (value, flips, cut) => {
        const bytes = written(value);
        for (const [at, byte] of flips) bytes[at % bytes.length]! ^= byte;
        const end = cut % 3 === 0 ? cut % (bytes.length + 1) : bytes.length;
        survives(() => expression.read(new Wire(bytes.subarray(0, end)), 0, end));
      },
    ),
    { numRuns: 3000 },
  );
});

/** Runs; only a DecodeError may come out. */
function survives(run: () => unknown): void {
  try {
    run();
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
  }
}

function emptyTable(family: Table["family"]): Table {
  return {
    family,
    name: "t",
    handle: 1,
    flags: [],
    chains: [],
    sets: [],
    objects: [],
    flowtables: [],
  };
}

test("rules with any expressions, in any order and registers, can be printed", () => {
  const table = emptyTable("inet");
  fc.assert(
    fc.property(
      fc.array(expressions, { maxLength: 12 }),
      fc.constantFrom<Family>("ip", "ip6", "inet", "bridge"),
      (list, family) => {
        const rule: Rule = { handle: 1, expressions: list };
        expect(typeof ruleText(rule, { ...table, family })).toBe("string");
        expect(typeof iptablesText(rule, family)).toBe("string");
      },
    ),
    { numRuns: 2000 },
  );
});

testWith(["root", "nft"])(
  "the messages of a real ruleset survive damage; undamaged they read back the same",
  () => {
    const namespace = freshNamespace();
    ask(namespace, ["nft", "-f", "-"], readFileSync(join(CORPUS, "products.nft"), "utf8"));
    const ruleset = readRuleset(namespace);
    for (const table of ruleset.tables) {
      for (const chain of table.chains) {
        for (const rule of chain.rules) checkMessage(table.name, chain.name, rule.expressions);
      }
    }
    // The whole value is plain JSON.
    expect(JSON.parse(JSON.stringify(ruleset))).toEqual(ruleset);
    expect(JSON.parse(JSON.stringify(ruleset)).tables.map((table: Table) => tableText(table))).toEqual(
      ruleset.tables.map((table) => tableText(table)),
    );
  },
);

function checkMessage(table: string, chain: string, list: readonly Expression[]): void {
  const writer = new Writer();
  const attributes = { table, chain, handle: 5, expressions: list };
  writeMessage(writer, request(NFT_MSG.newRule, "testing", { family: 2 }, attributes), 1);
  const bytes = writer.done().slice();
  const [message] = [...readMessages(bytes)];
  expect(decode(NFT_MSG.newRule, message!).attributes.expressions).toEqual(list);
  fc.assert(
    fc.property(fc.nat({ max: bytes.length - 17 }), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const damaged = bytes.slice();
      damaged[16 + at]! ^= change;
      survives(() => [...readMessages(damaged)].map((raw) => decode(NFT_MSG.newRule, raw)));
      survives(() =>
        [...readMessages(damaged.subarray(0, 16 + at))].map((raw) => decode(NFT_MSG.newRule, raw)),
      );
    }),
    { numRuns: 20 },
  );
}

test("a constant that is compared is of no type, and printed all the same", () => {
  const table = emptyTable("ip");
  const constant = { kind: "immediate", dreg: 10, data: { value: "00" } } as const;
  const compared = { kind: "cmp", sreg: 10, op: "==", data: "00" } as const;
  const ranged = { kind: "range", sreg: 10, op: "!=", from: "00", to: "07" } as const;
  expect(ruleText({ handle: 1, expressions: [constant, compared] }, table)).toBe("/* register 10 == 0x00 */");
  expect(ruleText({ handle: 1, expressions: [constant, ranged] }, table)).toBe(
    "/* register 10 != 0x00-0x07 */",
  );
});
