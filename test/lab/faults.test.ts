/** What is broken can be mended: after every fault of the lab, both families have their way out again. */
import { expect } from "bun:test";
import { join } from "node:path";
import { FAULTS } from "../../src/lab/faults/all.ts";
import { PLAN } from "../../src/lab/plan.ts";
import { afterThisTest } from "../support/teardown.ts";
import { run, testWith, type Ran } from "../support/witness.ts";

const WAYOUT = join(import.meta.dir, "..", "..", "bin", "wayout");
/** Neighbour entries that failed while a link was down fail once more before they are asked for anew. */
const ATTEMPTS = 6;

function lab(...words: readonly string[]): Ran {
  return run(undefined, [WAYOUT, "lab", ...words]);
}

/** The address that the site saw blue come from. */
function seenFrom(family: 4 | 6): string | undefined {
  const url = `http://${family === 4 ? PLAN.internet.httpIpv4 : `[${PLAN.internet.httpIpv6}]`}`;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const { stdout } = lab("exec", PLAN.pods.blue.namespace, "--", "curl", "-s", "--max-time", "3", url);
    if (stdout !== "") return (JSON.parse(stdout) as { seen: { address: string } }).seen.address;
    Bun.sleepSync(100);
  }
  return undefined;
}

testWith(["root", "curl", "iptables"])(
  "every fault can be mended",
  () => {
    afterThisTest(() => lab("down"));
    expect(lab("up")).toMatchObject({ exitCode: 0 });
    const healed: Record<string, unknown> = {};
    for (const { name } of FAULTS) {
      expect(lab("break", name)).toMatchObject({ exitCode: 0 });
      expect(lab("mend")).toMatchObject({ exitCode: 0 });
      healed[name] = [seenFrom(4), seenFrom(6)];
    }
    const out = [PLAN.node.uplinkIpv4, PLAN.node.uplinkIpv6];
    expect(healed).toEqual(Object.fromEntries(FAULTS.map(({ name }) => [name, out])));
  },
  300_000,
);
