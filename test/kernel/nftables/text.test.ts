/** Our text of a ruleset against nft: it takes it back, and lists the same afterwards; line by line it is its own. */
import { expect } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { rulesetText } from "../../../src/linux/nftables/text/ruleset.ts";
import { ask, run, testWith } from "../../support/witness.ts";
import { freshNamespace } from "../../support/world.ts";
import { CORPUS, countRules, listedByNft, readRuleset } from "./ruleset-world.ts";

const files = readdirSync(CORPUS).filter((file) => file.endsWith(".nft"));
const interfaces = new Map([[1, "lo"]]);

for (const file of files) {
  testWith(["root", "nft"])(`${file}: nft -f takes our text and lists the same`, () => {
    const [theirs, ours] = [freshNamespace(), freshNamespace()];
    ask(theirs, ["nft", "-f", "-"], readFileSync(join(CORPUS, file), "utf8"));
    const text = rulesetText(readRuleset(theirs), { interfaces });
    const loaded = run(ours, ["nft", "-f", "-"], text);
    expect(loaded.stderr).toBe("");
    expect(listedByNft(ours)).toEqual(listedByNft(theirs));
    // Read back once more it is the same text: nothing gets lost on the way round.
    expect(rulesetText(readRuleset(ours), { interfaces, stateless: true })).toBe(
      rulesetText(readRuleset(theirs), { interfaces, stateless: true }),
    );
  });
}

testWith(["root", "nft"])("the corpus has more than 500 rules, and we write nearly all as nft does", () => {
  let rules = 0;
  let lines = 0;
  const different: string[] = [];
  for (const file of files) {
    const namespace = freshNamespace();
    ask(namespace, ["nft", "-f", "-"], readFileSync(join(CORPUS, file), "utf8"));
    const ruleset = readRuleset(namespace);
    rules += countRules(ruleset);
    const theirs = linesOf(ask(namespace, ["nft", "list", "ruleset"]));
    const ours = new Set(linesOf(rulesetText(ruleset, { interfaces })));
    lines += theirs.length;
    different.push(...theirs.filter((line) => !ours.has(line)));
  }
  expect(rules).toBeGreaterThan(500);
  expect(lines).toBeGreaterThan(1000);
  expect(different.map((line) => line.trim()).sort()).toEqual(
    [
      // nft shows a raw payload as the fields it covers.
      "ip dscp 0x04 ip ecn not-ect accept",
      // nft cannot read back what it writes here.
      "icmpv6 parameter-problem 5 accept",
      // nft writes ranges of durations in seconds.
      "ct expiration 3600s-7200s accept",
    ].sort(),
  );
});

/**
 * Lines without indentation, and without the time that is left to elements. The order of elements in a set means
 * nothing, and nft's own is not always by key: they are sorted, and a declared set's each get a line.
 */
function linesOf(text: string): string[] {
  return text.split("\n").flatMap((line) => {
    const plain = line.trim().replaceAll(/ expires \w+/g, "");
    if (/^elements = \{|,$/.test(plain) || /^[^{]+ \}$/.test(plain)) {
      return plain.replace(/^elements = \{ | \}$|,$/g, "").split(", ");
    }
    return plain === ""
      ? []
      : [plain.replace(/\{ (.*) \}/, (_, inside: string) => inside.split(", ").sort().join(", "))];
  });
}
