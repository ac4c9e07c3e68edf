/** That something changed is heard wherever it does: on the node, and in pods, whose namespaces announce it to nobody else. */
import { expect } from "bun:test";
import { AnyChange } from "../../src/agent/any-change.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";

const PATIENCE_MS = 5_000;
/** Longer than what comes in late from before. */
const QUIET_MS = 600;

testWith(["root", "ip", "nft"])(
  "a change in a pod is heard on its node, and one elsewhere is not",
  async () => {
    const [node, pod, stranger] = [freshNamespace("node"), freshNamespace("pod"), freshNamespace("other")];
    ask(node, ["ip", "link", "add", "host0", "type", "veth", "peer", "name", "eth0", "netns", pod.name!]);
    for (const [place, name] of [
      [pod, "eth0"],
      [node, "host0"],
    ] as const)
      ask(place, ["ip", "link", "set", name, "up"]);
    ask(pod, ["ip", "address", "add", "10.0.0.2/24", "dev", "eth0"]);
    ask(pod, ["ip", "route", "add", "default", "via", "10.0.0.1"]);
    const heard: number[] = [];
    const changes = new AnyChange(node, () => heard.push(performance.now()));
    afterThisTest(() => void changes.close());

    const after = async (
      place: NetworkNamespace,
      ...command: readonly [string, ...string[]]
    ): Promise<boolean> => {
      let known = heard.length;
      do {
        known = heard.length;
        await Bun.sleep(QUIET_MS);
      } while (known !== heard.length);
      ask(place, command);
      for (let waited = 0; waited < PATIENCE_MS && known === heard.length; waited += 50) await Bun.sleep(50);
      return known !== heard.length;
    };
    expect(await after(pod, "ip", "route", "del", "default")).toBe(true);
    expect(await after(pod, "ip", "address", "del", "10.0.0.2/24", "dev", "eth0")).toBe(true);
    expect(await after(pod, "nft", "add", "table", "inet", "own")).toBe(true);
    expect(await after(pod, "ip", "rule", "add", "from", "10.9.0.0/16", "blackhole")).toBe(true);
    expect(await after(pod, "ip", "link", "set", "eth0", "down")).toBe(true);
    expect(await after(node, "ip", "link", "add", "br9", "type", "bridge")).toBe(true);
    expect(await after(node, "nft", "add", "table", "inet", "own")).toBe(true);
    expect(await after(stranger, "ip", "link", "set", "lo", "up")).toBe(false);
  },
  180_000,
);

testWith(["root", "nft"])(
  "of a storm comes a word now and then, and the last change is behind the last word",
  async () => {
    const node = freshNamespace("node");
    const moments: number[] = [];
    const changes = new AnyChange(node, () => moments.push(performance.now()));
    afterThisTest(() => void changes.close());
    await Bun.sleep(QUIET_MS);
    let last = 0;
    for (let table = 0; table < 40; table++) {
      ask(node, ["nft", "add", "table", "inet", `storm${table}`]);
      last = performance.now();
    }
    await Bun.sleep(PATIENCE_MS / 2);
    expect(moments.length).toBeGreaterThan(0);
    expect(moments.length).toBeLessThanOrEqual(40);
    expect(moments.at(-1)!).toBeGreaterThan(last);
  },
  180_000,
);
