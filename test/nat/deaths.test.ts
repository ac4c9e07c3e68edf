/** SIGKILL before each system call by which `nat apply` and `nat remove` change something: the same again finishes it. */
import { afterAll, describe, expect } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { freshName, nodeState, SERVER, world } from "../attachment/world.ts";
import { pluginProgram } from "../cni/plugin.ts";
import { deathsOf, dies } from "../support/deaths.ts";
import { run, testWith } from "../support/witness.ts";

const withPrograms = testWith(["root", "ip", "nft", "iptables", "ping", "strace"]);

const directory = mkdtempSync(join(tmpdir(), "wayout-nat-deaths-"));
afterAll(() => rmSync(directory, { recursive: true }));

/** Both families, a fixed address and an exception: whatever a backend does in several steps. */
const POLICY = join(directory, "policy.yaml");
writeFileSync(
  POLICY,
  JSON.stringify({
    sources: ["10.244.0.0/16", "fd00:244::/64", { cidr: "10.244.7.0/24", snat: "203.0.113.5" }],
    nonMasqueradeCIDRs: ["10.0.0.0/8", "fd00::/8"],
  }),
);

/** Without the notes of rules that were found in order (docs/state.md): an apply that finds them in order may write one. */
function stateOf(node: NetworkNamespace): Readonly<Record<string, string>> {
  const state = nodeState(node);
  return { ...state, files: state["files"]!.replace(/ nat(\/\d+)?(?= |$)/gm, "") };
}

for (const backend of ["nftables", "iptables"]) {
  describe(backend, () => {
    const APPLY = [pluginProgram(), "nat", "apply", "-f", POLICY, "--backend", backend];
    const REMOVE = [pluginProgram(), "nat", "remove"];

    /** A node whose attached pod is never cut, and what the node's state is without the policy and with it. */
    class Scene {
      readonly node: NetworkNamespace = world().node;
      readonly pod = freshName();
      readonly without: Readonly<Record<string, string>>;
      readonly with: Readonly<Record<string, string>>;

      constructor() {
        this.succeeds([pluginProgram(), "attach", this.pod, "--create"]);
        // Also what a first policy leaves in the kernel for good: the tables of iptables.
        this.succeeds(APPLY);
        this.succeeds(REMOVE);
        this.without = stateOf(this.node);
        this.succeeds(APPLY);
        this.with = stateOf(this.node);
      }

      succeeds(command: readonly string[]): void {
        const { exitCode, stdout, stderr } = run(this.node, command);
        if (exitCode !== 0)
          throw new Error(`${command.join(" ")} ended with ${exitCode}: ${stdout}${stderr}`);
      }

      /** Nobody outside has a way back to it, so what is answered was translated. */
      isAnswered(): boolean {
        const ping = ["ip", "netns", "exec", this.pod, "ping", "-c1", "-W5", SERVER.v4];
        return run(this.node, ping).exitCode === 0;
      }
    }

    /** @param first what brings the node where the swept command begins */
    function sweep(
      scene: Scene,
      swept: readonly string[],
      first: readonly string[],
      goal: Readonly<Record<string, string>>,
    ): number {
      const mortal = { node: scene.node, command: swept };
      scene.succeeds(first);
      let died = 0;
      for (const death of deathsOf(mortal)) {
        scene.succeeds(first);
        if (dies(mortal, death)) died++;
        expect([death, scene.isAnswered()]).toEqual([death, true]);
        scene.succeeds(swept);
        expect([death, stateOf(scene.node)]).toEqual([death, goal]);
      }
      expect(scene.isAnswered()).toBe(true);
      return died;
    }

    withPrograms(
      "apply and remove: the next one finishes it, nothing is left, and the pod of another owner is never cut",
      () => {
        const scene = new Scene();
        expect(sweep(scene, APPLY, REMOVE, scene.with)).toBeGreaterThan(8);
        expect(sweep(scene, REMOVE, APPLY, scene.without)).toBeGreaterThan(8);
      },
      240_000,
    );
  });
}
