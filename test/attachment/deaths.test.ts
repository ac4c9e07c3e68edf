/** SIGKILL before each system call that changes something: whatever is left, the next command takes away. */
import { expect } from "bun:test";
import { existsSync, readdirSync } from "node:fs";
import { NETNS_DIRECTORY, type NetworkNamespace } from "../../src/kernel/namespace.ts";
import { pluginProgram } from "../cni/plugin.ts";
import { deathsOf, dies } from "../support/deaths.ts";
import { run, testWith } from "../support/witness.ts";
import { freshName, nodeState, world } from "./world.ts";

const withStrace = testWith(["root", "ip", "nft", "strace"]);

function succeeds(node: NetworkNamespace, ...args: string[]): void {
  const { exitCode, stdout, stderr } = run(node, [pluginProgram(), ...args]);
  if (exitCode !== 0) throw new Error(`wayout ${args.join(" ")} ended with ${exitCode}: ${stdout}${stderr}`);
}

/** Names of namespaces, mounted or not: a file that nothing is mounted on keeps its name from everybody. */
function names(): string[] {
  return existsSync(NETNS_DIRECTORY) ? readdirSync(NETNS_DIRECTORY) : [];
}

withStrace(
  "attach: the same again works, and so does another; in the end nothing is left",
  () => {
    const { node } = world();
    const [blue, green] = [freshName(), freshName("green")];
    const before = [nodeState(node), names()];
    const attach = [pluginProgram(), "attach", blue, "--create", "--dns", "198.51.100.53"];
    const mortal = { node, command: attach };
    const deaths = deathsOf(mortal);
    succeeds(node, "detach", blue);
    let died = 0;
    for (const [turn, death] of deaths.entries()) {
      if (dies(mortal, death)) died++;
      const next = turn % 2 === 0 ? blue : green;
      succeeds(node, "attach", next, "--create");
      // The killed one may have been whole already.
      run(node, [pluginProgram(), "detach", blue]);
      if (next === green) succeeds(node, "detach", green);
      expect([death, nodeState(node), names()]).toEqual([death, ...before]);
    }
    expect(died).toBeGreaterThan(25);
  },
  240_000,
);

withStrace(
  "detach: the next one finishes it, of this namespace or another",
  () => {
    const { node } = world();
    const [blue, green] = [freshName(), freshName("green")];
    const before = [nodeState(node), names()];
    const mortal = { node, command: [pluginProgram(), "detach", blue] };
    const attach = (): void => succeeds(node, "attach", blue, "--create", "--dns", "198.51.100.53");
    attach();
    let died = 0;
    for (const [turn, death] of deathsOf(mortal).entries()) {
      attach();
      if (dies(mortal, death)) died++;
      if (turn % 2 === 1) {
        succeeds(node, "attach", green, "--create");
        succeeds(node, "detach", green);
      }
      // Killed before its first note, it was not begun; killed after its last, nothing is there to detach.
      run(node, [pluginProgram(), "detach", blue]);
      expect([death, nodeState(node), names()]).toEqual([death, ...before]);
    }
    expect(died).toBeGreaterThan(12);
  },
  240_000,
);
