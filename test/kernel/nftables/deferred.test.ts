/** Rules whose expressions are decoded when somebody asks for them are the same rules. */
import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Nftables } from "../../../src/kernel/nftables/nftables.ts";
import { NFT_MSG } from "../../../src/linux/nftables/messages.ts";
import { RuleDump } from "../../../src/linux/nftables/rule-dump.ts";
import type { Rule, Ruleset } from "../../../src/linux/nftables/ruleset.ts";
import { DecodeError, Wire, Writer } from "../../../src/linux/netlink/wire.ts";
import { ask, testWith } from "../../support/witness.ts";
import { freshNamespace } from "../../support/world.ts";
import { CORPUS, countRules, iptablesRules, readRuleset } from "./ruleset-world.ts";

const loaders = [
  ...readdirSync(CORPUS)
    .filter((file) => file.endsWith(".nft"))
    .map((file) => ({
      file,
      program: ["nft", "-f", "-"],
      rules: () => readFileSync(join(CORPUS, file), "utf8"),
    })),
  { file: "iptables.rules", program: ["iptables-nft-restore"], rules: () => iptablesRules("iptables.rules") },
] as const;

for (const { file, program, rules } of loaders) {
  testWith(["root", "nft", program[0]])(
    `${file}: read at once or when asked for, the rules are the same`,
    () => {
      const namespace = freshNamespace();
      ask(namespace, program, rules());
      const plain = readRuleset(namespace);
      expect(countRules(plain)).toBeGreaterThan(0);
      using nftables = Nftables.open(namespace);
      expect(timeless(nftables.ruleset({ deferred: true }))).toEqual(timeless(plain));
      expect(oneByOne(nftables.ruleset({ deferred: true }))).toEqual(oneByOne(plain));
    },
  );
}

/** As JSON, without the time that is left to elements. */
function timeless(ruleset: Ruleset): unknown {
  return JSON.parse(
    JSON.stringify(ruleset, (key, value: unknown) => (key === "expiresMs" ? undefined : value)),
  );
}

/** All expressions by expressionAt, the last ones first in every second rule, so that order does not matter. */
function oneByOne(ruleset: Ruleset): unknown[] {
  return ruleset.tables.flatMap((table) =>
    table.chains.flatMap((chain) =>
      chain.rules.map((rule, index) => {
        const at = (position: number): unknown =>
          rule.expressionAt === undefined ? rule.expressions[position] : rule.expressionAt(position);
        if (index % 2 === 0) at(1000);
        const found: unknown[] = [];
        for (let position = 0; at(position) !== undefined; position++) found.push(at(position));
        return [rule.handle, rule.comment, rule.userdata, rule.compat, found];
      }),
    ),
  );
}

/** NFT_MSG_NEWRULE with one comparison whose operator has the given bytes. */
function ruleMessage(operator: Uint8Array): Wire {
  const writer = new Writer();
  NFT_MSG.newRule.header.write(writer, { family: 1 });
  NFT_MSG.newRule.attributes.write(writer, {
    table: "t",
    chain: "c",
    handle: 7,
    expressions: [{ kind: "other", name: "cmp", data: operator.toHex() }],
  });
  return new Wire(writer.done().slice());
}

test("what cannot be decoded is an error at once, or an unknown expression later", () => {
  // NFTA_CMP_OP with two bytes instead of four.
  const wire = ruleMessage(Uint8Array.of(6, 0, 2, 0, 1, 2, 0, 0));
  const place: Rule[] = [];
  new RuleDump(() => place, true).add(wire, 0, wire.bytes.length);
  // The receive buffer is used again.
  wire.bytes.fill(0xff);
  expect(place[0]!.handle).toBe(7);
  expect(place[0]!.expressions).toEqual([
    { kind: "other", name: expect.stringContaining("NFTA_CMP_OP"), data: expect.any(String) },
  ]);
  const again = ruleMessage(Uint8Array.of(6, 0, 2, 0, 1, 2, 0, 0));
  expect(() => new RuleDump(() => [], false).add(again, 0, again.bytes.length)).toThrow(DecodeError);
  expect(() => new RuleDump(() => [], false).add(again, 0, again.bytes.length)).toThrow(
    /NFT_MSG_NEWRULE\.NFTA_RULE_EXPRESSIONS\.NFTA_LIST_ELEM\[0\].*NFTA_CMP_OP/,
  );
});
