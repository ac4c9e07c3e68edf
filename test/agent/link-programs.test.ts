/** The agent keeps the programs of the backend `ebpf`: at links that come later, and where somebody took them away. */
import { expect } from "bun:test";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { deleteNamedNamespace } from "../../src/kernel/named-namespace.ts";
import { namesIn, namespaceDirectory } from "../../src/nat/backends/ebpf/bpf-directory.ts";
import { WAYOUT } from "../attachment/world.ts";
import { buildNodeWorld } from "../support/node-world.ts";
import { afterThisTest } from "../support/teardown.ts";
import { until } from "../support/until.ts";
import { ask, run, testWith } from "../support/witness.ts";
import { RunningAgent } from "./running-agent.ts";

const SERVER = "198.51.100.80";

testWith(["root", "real-root", "ip", "nft", "ping"])(
  "a link that comes up later is given the programs, and lost ones are put back",
  async () => {
    const { node, outside } = buildNodeWorld({
      uplink: {
        name: "wan7",
        outsideName: "isp7",
        addresses: ["203.0.113.5/24"],
        outsideAddresses: ["203.0.113.1/24"],
        gateways: ["203.0.113.1"],
      },
      servers: [`${SERVER}/32`],
      forwards: true,
    });
    const wayout = (...args: string[]): void => void ask(node, [WAYOUT, ...args]);
    afterThisTest(() => {
      run(node, [WAYOUT, "detach", "lime"]);
      deleteNamedNamespace("lime");
    });
    wayout("attach", "lime", "--create", "--backend", "ebpf");
    const gets = (): boolean =>
      run(undefined, ["ip", "netns", "exec", "lime", "ping", "-c", "1", "-W", "5", SERVER]).exitCode === 0;
    expect(gets()).toBe(true);
    const agent = await RunningAgent.on(node);
    // Another uplink comes up, and the default route moves there.
    ask(node, ["ip", "link", "add", "tun7", "type", "veth", "peer", "name", "isp8", "netns", outside.name!]);
    ask(node, ["ip", "address", "add", "192.0.2.2/24", "dev", "tun7"]);
    ask(outside, ["ip", "address", "add", "192.0.2.1/24", "dev", "isp8"]);
    for (const [side, link] of [
      [node, "tun7"],
      [outside, "isp8"],
    ] as const)
      ask(side, ["ip", "link", "set", link, "up"]);
    ask(node, ["ip", "route", "replace", "default", "via", "192.0.2.1"]);
    await agent.says("repaired", { object: "the eBPF program at the egress of tun7" });
    // The link was given its programs when it appeared; its address and the route came later.
    await until(gets, "packets leave by tun7");
    // Somebody flushes the rules: the guard is put back, and no connection is touched by it.
    ask(node, ["nft", "flush", "ruleset"]);
    await agent.says("repaired", { object: "table inet wayout-guard" });
    // Somebody takes programs and maps away.
    const directory = namespaceDirectory(node)!;
    for (const name of namesIn(directory)!) rmSync(join(directory, name), { force: true });
    await agent.says("repaired", { object: "the eBPF program at the egress of tun7" });
    await agent.says("reconciled");
    expect(gets()).toBe(true);
    expect(await agent.stop()).toBe(0);
    expect(gets()).toBe(true);
  },
);
