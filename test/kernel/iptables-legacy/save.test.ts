/** iptables-legacy read over its socket options, against iptables-legacy-save. */
import { expect, test } from "bun:test";
import * as fc from "fast-check";
import { legacyText, readLegacyTables } from "../../../src/kernel/iptables-legacy/iptables-legacy.ts";
import { readLegacyTable } from "../../../src/linux/iptables-legacy/entries.ts";
import { DecodeError } from "../../../src/linux/netlink/wire.ts";
import { ask, testWith } from "../../support/witness.ts";
import { freshNamespace } from "../../support/world.ts";
import { iptablesRules } from "../nftables/ruleset-world.ts";

/** iptables-save without its remarks, which hold the time; tables in the order of their names. */
function normal(text: string): string[] {
  const tables = text
    .split("\n")
    .filter((line) => !line.startsWith("#") && line !== "")
    .join("\n")
    .split("COMMIT");
  return tables.map((table) => table.trim().split("\n").sort().join("\n")).sort();
}

for (const [file, program, family] of [
  ["iptables.rules", "iptables-legacy", "ip"],
  ["ip6tables.rules", "ip6tables-legacy", "ip6"],
] as const) {
  testWith(["root", program])(`${file}: the same text as ${program}-save -c`, () => {
    const namespace = freshNamespace();
    ask(namespace, [`${program}-restore`], iptablesRules(file));
    const tables = readLegacyTables({ namespace, families: [family] });
    expect(tables.flatMap((table) => table.chains).flatMap((chain) => chain.rules).length).toBeGreaterThan(
      20,
    );
    expect(normal(legacyText(tables))).toEqual(normal(ask(namespace, [`${program}-save`, "-c"])));
    expect(JSON.parse(JSON.stringify(tables))).toEqual(tables);
  });
}

testWith(["root", "iptables-legacy", "ping"])("counters of rules and policies", () => {
  const namespace = freshNamespace();
  ask(namespace, ["iptables-legacy", "-A", "INPUT", "-p", "icmp", "-i", "lo"]);
  ask(namespace, ["iptables-legacy", "-P", "FORWARD", "DROP"]);
  ask(namespace, ["ping", "-c", "3", "-i", "0.01", "127.0.0.1"]);
  const [filter] = readLegacyTables({ namespace });
  const input = filter!.chains.find((chain) => chain.name === "INPUT")!;
  expect(input.rules[0]!.expressions).toContainEqual({ kind: "counter", packets: 6, bytes: 504 });
  expect(input.counter).toEqual({ packets: 6, bytes: 504 });
  expect(filter!.chains.find((chain) => chain.name === "FORWARD")!.base?.policy).toBe("drop");
});

testWith(["root"])("reading makes no table: where there is none, none is there afterwards", () => {
  const namespace = freshNamespace();
  expect(readLegacyTables({ namespace })).toEqual([]);
  expect(readLegacyTables({ namespace })).toEqual([]);
});

test("a block of anything ends in a table or a DecodeError", () => {
  const block = fc.uint8Array({ minLength: 0, maxLength: 400 });
  const word = fc.nat({ max: 400 });
  const five = fc.array(word, { minLength: 5, maxLength: 5 });
  fc.assert(
    fc.property(
      block,
      five,
      five,
      fc.constantFrom("ip" as const, "ip6" as const),
      (bytes, hooks, underflow, family) => {
        const info = { validHooks: 0x1f, hookEntry: hooks, underflow, entries: 1, size: bytes.length };
        try {
          expect(readLegacyTable(family, "filter", info, bytes).name).toBe("filter");
        } catch (error) {
          expect(error).toBeInstanceOf(DecodeError);
        }
      },
    ),
    { numRuns: 1000 },
  );
});
