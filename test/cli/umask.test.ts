/** What wayout keeps has the modes that it means, whatever umask a shell or a runtime gives it. */
import { expect } from "bun:test";
import { rmSync } from "node:fs";
import { freshName, WAYOUT, world } from "../attachment/world.ts";
import { bridgeNetwork, call, freshPod, must } from "../cni/plugin.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, run, testWith } from "../support/witness.ts";

const UMASKS = [0o022, 0, 0o077];

/** Everything below these folders: kind and mode, and the name with its numbers taken out, which differ each time. */
function modes(...folders: readonly string[]): string[] {
  const lines = ask(undefined, ["find", ...folders, "-printf", "%y %m\t%p\n"])
    .trim()
    .split("\n");
  const nameless = lines.map((line) => {
    const [mode, path = ""] = line.split("\t");
    return `${mode} ${path.replaceAll(/\d+/g, "N")}`;
  });
  return [...new Set(nameless)].sort();
}

/** Runs `work` under each umask, from a clean start; what it leaves must be the same. */
function sameUnderEach(work: (turn: number) => string[]): void {
  const before = process.umask();
  afterThisTest(() => {
    process.umask(before);
    rmSync("/run/wayout", { recursive: true, force: true });
  });
  const results = UMASKS.map((umask, turn) => {
    rmSync("/run/wayout", { recursive: true, force: true });
    process.umask(umask);
    return work(turn);
  });
  expect(results[0]!.length).toBeGreaterThan(2);
  for (const result of results) expect(result).toEqual(results[0]!);
}

testWith(["root", "ip", "nft", "find"])("attach", () => {
  sameUnderEach(() => {
    const { node } = world();
    const name = freshName();
    expect(run(node, [WAYOUT, "attach", name, "--create"])).toMatchObject({ exitCode: 0 });
    return modes("/run/wayout", `/run/netns/${name}`);
  });
});

testWith(["root", "ip", "nft", "find"])("a plugin call", () => {
  sameUnderEach((turn) => {
    const { node } = world();
    const pod = freshPod(`pod${turn}`);
    const directory = `/run/umask-test-${turn}`;
    afterThisTest(() => rmSync(directory, { recursive: true, force: true }));
    const conf = bridgeNetwork({
      ipMasq: true,
      ipam: { type: "host-local", subnet: "10.42.0.0/24", dataDir: directory },
    });
    must(call(node, "ADD", conf, pod));
    return modes("/run/wayout", directory);
  });
});
