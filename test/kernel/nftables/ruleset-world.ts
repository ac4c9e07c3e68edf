/** Rulesets in throw-away namespaces: put there by nft, seen by nft and by us. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { NetworkNamespace } from "../../../src/kernel/namespace.ts";
import { Nftables } from "../../../src/kernel/nftables/nftables.ts";
import type { Ruleset } from "../../../src/linux/nftables/ruleset.ts";
import { ask, isRealRoot } from "../../support/witness.ts";

export const CORPUS = join(import.meta.dir, "corpus");

/** Rules for iptables-restore. In a user namespace only user 0 exists, and rules cannot ask for others. */
export function iptablesRules(file: string): string {
  const rules = readFileSync(join(CORPUS, file), "utf8").split("\n");
  return rules.filter((rule) => isRealRoot || !/--[ug]id-owner [1-9]/.test(rule)).join("\n");
}

/** The ruleset as we read it. */
export function readRuleset(namespace: NetworkNamespace): Ruleset {
  using nftables = Nftables.open(namespace);
  return nftables.ruleset();
}

export function countRules(ruleset: Ruleset): number {
  return ruleset.tables.flatMap((table) => table.chains).reduce((sum, chain) => sum + chain.rules.length, 0);
}

/** What nft lists, an object a line, without what differs between two equal rulesets: handles and remaining time. */
export function listedByNft(namespace: NetworkNamespace): string[] {
  const listed = JSON.parse(ask(namespace, ["nft", "-j", "list", "ruleset"])) as { nftables: object[] };
  return listed.nftables
    .filter((object) => !("metainfo" in object))
    .map((object) =>
      JSON.stringify(object, (key, value: unknown) =>
        key === "handle" || key === "expires" ? undefined : value,
      ),
    );
}
