/** Rules of iptables-nft, as iptables-save would write them. */
import { expect } from "bun:test";
import type { NetworkNamespace } from "../../../src/kernel/namespace.ts";
import { iptablesText, isIptablesTable, rulesetText } from "../../../src/linux/nftables/text/ruleset.ts";
import { ask, testWith } from "../../support/witness.ts";
import { freshNamespace } from "../../support/world.ts";
import { iptablesRules, readRuleset } from "./ruleset-world.ts";

/** `-A` lines, with the table before each. */
function savedRules(text: string): string[] {
  let table = "";
  const rules: string[] = [];
  for (const line of text.split("\n")) {
    if (line.startsWith("*")) table = line.slice(1);
    if (line.startsWith("-A")) rules.push(`${table} ${line}`);
  }
  return rules;
}

function ourRules(namespace: NetworkNamespace, family: "ip" | "ip6"): string[] {
  const tables = readRuleset(namespace).tables.filter((table) => table.family === family);
  return tables.flatMap((table) => {
    expect(isIptablesTable(table)).toBe(true);
    return table.chains.flatMap((chain) =>
      chain.rules.map((rule) => `${table.name} -A ${chain.name} ${iptablesText(rule, family)}`.trim()),
    );
  });
}

for (const [file, program, family] of [
  ["iptables.rules", "iptables-nft", "ip"],
  ["ip6tables.rules", "ip6tables-nft", "ip6"],
] as const) {
  testWith(["root", program])(`${file}: the same text as ${program}-save, rule for rule`, () => {
    const namespace = freshNamespace();
    ask(namespace, [`${program}-restore`], iptablesRules(file));
    const saved = savedRules(ask(namespace, [`${program}-save`]));
    expect(saved.length).toBeGreaterThan(20);
    expect(ourRules(namespace, family).sort()).toEqual(saved.sort());
  });
}

testWith(["root", "iptables-nft"])("what has no words is named with its size, never left out", () => {
  const namespace = freshNamespace();
  ask(namespace, [
    "iptables-nft",
    "-A",
    "INPUT",
    "-p",
    "ipcomp",
    "-m",
    "ipcomp",
    "--ipcompspi",
    "1",
    "-j",
    "DROP",
  ]);
  const ruleset = readRuleset(namespace);
  const rule = ruleset.tables[0]!.chains.find((chain) => chain.name === "INPUT")!.rules[0]!;
  expect(iptablesText(rule, "ip")).toBe(
    "-p ipcomp -m ipcomp /* revision 0, 16 bytes not understood */ -j DROP",
  );
  expect(rulesetText(ruleset, { stateless: true })).toContain(
    "/* xt -m ipcomp (revision 0, 16 bytes not understood) */ counter drop",
  );
});

testWith(["root", "iptables-nft"])("counters come first when they are asked for", () => {
  const namespace = freshNamespace();
  ask(namespace, ["iptables-nft", "-t", "nat", "-A", "POSTROUTING", "-s", "10.0.0.0/24", "-j", "MASQUERADE"]);
  const chain = readRuleset(namespace).tables[0]!.chains.find((one) => one.name === "POSTROUTING")!;
  expect(iptablesText(chain.rules[0]!, "ip", { counters: true })).toBe("[0:0] -s 10.0.0.0/24 -j MASQUERADE");
});
