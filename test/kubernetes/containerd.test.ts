/** A containerd beside the agent of a node: no pod before the network stands, and nothing left when both are killed. */
import { expect } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { pluginProgram } from "../cni/plugin.ts";
import { Containerd, sandboxPid, testWithContainerd } from "../support/containerd.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask } from "../support/witness.ts";
import { ClusterWorld, reaches, seenAs, SERVER, type ClusterNodeOfTest } from "./cluster-world.ts";

const TIMEOUT_MS = 300_000;

function vethsOf({ namespace }: ClusterNodeOfTest): string[] {
  const links = JSON.parse(ask(namespace, ["ip", "-json", "link", "show", "type", "veth"])) as {
    readonly ifname: string;
  }[];
  return links.map(({ ifname }) => ifname).filter((name) => name !== "up0");
}

testWithContainerd(
  "a node's pods: refused until the agent has written its file, and after kill -9 of both none is lost or left",
  async () => {
    const world = await ClusterWorld.make("node-a");
    const [a] = world.nodes as [ClusterNodeOfTest];
    const directory = mkdtempSync(join(tmpdir(), "wayout-cri-"));
    afterThisTest(() => rmSync(directory, { recursive: true, force: true }));
    const binDirectory = join(directory, "bin");
    // The plugin and loopback, and no configuration.
    const elsewhere = join(directory, "elsewhere");
    mkdirSync(elsewhere);
    const words = ["--bin-dir", binDirectory, "--conf-dir", elsewhere, "--subnet", "10.9.0.0/24"];
    ask(a.namespace, [pluginProgram(), "cni", "install", ...words]);
    const { configurationDirectory } = a;
    const containerd = await Containerd.start({
      node: a.namespace,
      directory,
      binDirectory,
      configurationDirectory,
    });
    expect(await containerd.isNetworkReady()).toBe(false);
    expect(await containerd.runPod("early").catch(String)).toContain("cni");

    // While the node has no podCIDR the agent writes nothing.
    const agent = await world.agent(a, "--cni-bin-dir", binDirectory);
    expect(await containerd.isNetworkReady()).toBe(false);
    world.post(a, ["10.244.1.0/24"]);
    await containerd.untilNetworkReady();
    const web = await containerd.runPod("web");
    await leavesAs(containerd, world, web, a.v4);

    const both = Promise.allSettled([containerd.runPod("left-0"), containerd.runPod("left-1")]);
    await Promise.all([agent.stop("SIGKILL"), containerd.end("SIGKILL")]);
    await both;
    await containerd.listen();
    await containerd.untilNetworkReady();
    await leavesAs(containerd, world, web, a.v4);
    await world.agent(a, "--cni-bin-dir", binDirectory);
    const late = await containerd.runPod("late");
    await leavesAs(containerd, world, late, a.v4);

    // A kubelet takes away every sandbox that it does not want any more.
    const { items } = await containerd.call<{ items: readonly { readonly id: string }[] }>(
      "ListPodSandbox",
      {},
    );
    for (const { id } of items) await containerd.removePod(id);
    expect(vethsOf(a)).toEqual([]);
    const reserved = readdirSync(`/var/lib/cni/networks/${a.network}`).filter((name) => /^\d/.test(name));
    expect(reserved).toEqual([]);
  },
  TIMEOUT_MS,
);

async function leavesAs(
  containerd: Containerd,
  world: ClusterWorld,
  id: string,
  address: string,
): Promise<void> {
  using pod = NetworkNamespace.ofProcess(sandboxPid(await containerd.status(id)));
  expect(reaches(pod, SERVER[4])).toBe(true);
  expect(await seenAs(pod, world.outside, SERVER[4])).toBe(address);
}
