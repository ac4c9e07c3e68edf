/** Reading and printing a large nf_tables ruleset. */
import { join } from "node:path";
import { Nftables } from "../src/kernel/nftables/nftables.ts";
import { rulesetText } from "../src/linux/nftables/text/ruleset.ts";
import type { Benchmark, Side } from "./benchmark.ts";

const CHAINS = 100;
const RULES_PER_CHAIN = 100;

let prepared = false;

/** As a node with many services has them: addresses, ports, states, counters, comments, some sets. */
function fillRuleset(): void {
  if (prepared) return;
  prepared = true;
  const lines: string[] = ["table inet bench {"];
  for (let chain = 0; chain < CHAINS; chain++) {
    lines.push(`chain c${chain} {`);
    for (let rule = 0; rule < RULES_PER_CHAIN; rule++) {
      const kind = rule % 4;
      const address = `10.${chain}.${rule}.0/24`;
      const port = 1000 + rule;
      if (kind === 0)
        lines.push(`ip saddr ${address} tcp dport ${port} ct state established,related counter accept`);
      if (kind === 1)
        lines.push(`ip daddr != ${address} oifname != "br0" counter drop comment "rule ${chain} ${rule}"`);
      if (kind === 2)
        lines.push(`meta mark & 0xff == ${rule} ip6 saddr fd00:${chain}::${rule} udp dport ${port} accept`);
      if (kind === 3) lines.push(`iifname "eth${rule}" ip saddr 10.0.${chain}.${rule} counter return`);
    }
    lines.push("}");
  }
  nft(["-f", "-"], [...lines, "}"].join("\n"));
}

function nft(args: readonly string[], input = ""): string {
  const child = Bun.spawnSync(["nft", ...args], {
    stdin: Buffer.from(input),
    stdout: "pipe",
    stderr: "pipe",
  });
  if (child.exitCode !== 0) throw new Error(`nft ${args.join(" ")}: ${child.stderr.toString()}`);
  return child.stdout.toString();
}

const listByNft: Side = {
  name: "nft list ruleset",
  run() {
    nft(["list", "ruleset"]);
  },
};

/** What must be true for the comparison to mean anything. */
function checkSame(text: string): void {
  if (text !== nft(["list", "ruleset"])) throw new Error("our text of the ruleset is not nft's");
}

export const benchmarks: readonly Benchmark[] = [
  {
    name: "ruleset/list",
    what: `reading and printing ${CHAINS * RULES_PER_CHAIN} rules in a running process, beside nft list ruleset`,
    target: { ratio: 1, of: "nft list ruleset" },
    needs: ["root", "nft"],
    async run(context) {
      fillRuleset();
      using nftables = Nftables.open();
      checkSame(rulesetText(nftables.ruleset()));
      const ours: Side = {
        name: "wayout",
        run() {
          rulesetText(nftables.ruleset());
        },
      };
      const measured = await context.compare({ ours, reference: listByNft }, { rounds: 9, warmUp: 3 });
      return { ...measured, facts: { rules: CHAINS * RULES_PER_CHAIN } };
    },
  },
  {
    name: "ruleset/list-cold",
    what: "the same in a process of its own, its start and the compiling of its code included",
    needs: ["root", "nft"],
    async run(context) {
      fillRuleset();
      const source = join(context.directory, "list.ts");
      const rooms = join(import.meta.dir, "..", "src");
      await Bun.write(
        source,
        `import { Nftables } from ${JSON.stringify(join(rooms, "kernel/nftables/nftables.ts"))};
         import { rulesetText } from ${JSON.stringify(join(rooms, "linux/nftables/text/ruleset.ts"))};
         process.stdout.write(rulesetText(Nftables.open().ruleset()));`,
      );
      const ours: Side = {
        name: "wayout, a new process",
        run() {
          const child = Bun.spawnSync([process.execPath, source], { stdout: "pipe", stderr: "pipe" });
          if (child.exitCode !== 0) throw new Error(child.stderr.toString());
        },
      };
      return context.compare({ ours, reference: listByNft }, { rounds: 7 });
    },
  },
  {
    name: "ruleset/generation",
    what: "asking whether the ruleset changed, beside reading it all",
    needs: ["root", "nft"],
    async run(context) {
      fillRuleset();
      using nftables = Nftables.open();
      return await context.compare(
        {
          ours: { name: "generation", run: () => void nftables.generation() },
          reference: { name: "ruleset", run: () => void nftables.ruleset() },
        },
        { rounds: 9 },
      );
    },
  },
];
