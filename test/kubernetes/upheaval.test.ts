/** What a node of a cluster goes through: an agent that is upgraded or killed, plugins that are killed, a file rewritten. */
import { expect } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { putConflist } from "../../src/cni/placement.ts";
import { dataDirectory } from "../cni/node.ts";
import { call, must, startCall, type Attachment, type Configuration } from "../cni/plugin.ts";
import { serveTransfers, Transfers } from "../support/transfers.ts";
import { afterThisTest } from "../support/teardown.ts";
import { until } from "../support/until.ts";
import { ask, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";
import { ClusterWorld, reaches, SERVER, type ClusterNodeOfTest } from "./cluster-world.ts";

const test = testWith(["root", "nft", "openssl", "ping"]);
const TIMEOUT_MS = 180_000;
const FLOWS = Number(process.env["UPHEAVAL_FLOWS"] ?? 300);
const PODS = 30;
const READS = 10_000;

async function oneNode() {
  const world = await ClusterWorld.make("node-a");
  const [a] = world.nodes as [ClusterNodeOfTest];
  world.post(a, ["10.244.1.0/24"]);
  const agent = await world.agent(a);
  await until(() => world.conflist(a) !== undefined, "it is configured");
  return { world, a, agent };
}

test(
  "connections outlive an agent that is upgraded, and one that is killed and started again",
  async () => {
    const { world, a, agent } = await oneNode();
    serveTransfers(world.outside);
    const pod = world.pod(a);
    const transfers = await Transfers.of(pod.namespace.name!, SERVER[4], FLOWS);
    await agent.stop();
    const next = await world.agent(a);
    expect(await transfers.ask<object>("state")).toMatchObject({ cut: 0 });
    await next.stop("SIGKILL");
    expect(await transfers.ask<object>("new")).toMatchObject({ seenAs: a.v4 });
    await world.agent(a);
    expect(await transfers.ask<object>("state")).toMatchObject({ cut: 0 });
    expect(await transfers.ask<object>("new")).toMatchObject({ seenAs: a.v4 });
  },
  TIMEOUT_MS,
);

/** Everything of a node that pods leave traces in. */
function tracesOn(a: ClusterNodeOfTest, conf: Configuration): object {
  const links = JSON.parse(ask(a.namespace, ["ip", "-json", "link"])) as { readonly ifname: string }[];
  return {
    links: links.map(({ ifname }) => ifname),
    // Not counters, nor handles.
    rules: ask(a.namespace, ["nft", "-s", "list", "ruleset"]).replaceAll(/^table .*flags owner.*$/gm, ""),
    reserved: readdirSync(dataDirectory(conf)).filter((name) => /^\d/.test(name)),
    // Whose flows are left is noted, of a bounded number of addresses.
    notes: readdirSync("/run/wayout/cni", { recursive: true })
      .map(String)
      .filter((name) => !name.includes(".left")),
  };
}

test(
  "of thirty pods some are killed in the making, and the agent amid them: the others stand, and nothing is left of any",
  async () => {
    const { world, a, agent } = await oneNode();
    const conflist = world.conflist(a)!;
    const conf: Configuration = {
      ...conflist.plugins[0],
      type: "wayout",
      name: conflist.name,
      cniVersion: conflist.cniVersion,
    };
    // The first pod of a network makes what stays.
    const first = world.pod(a);
    expect(reaches(first.namespace, SERVER[4])).toBe(true);
    const before = tracesOn(a, conf);

    const pods = Array.from({ length: PODS }, (_, index) => {
      const namespace = freshNamespace("pod");
      const attachment: Attachment = {
        container: `upheaval-${process.pid}-${index}`,
        netns: `/run/netns/${namespace.name}`,
      };
      return { namespace, attachment };
    });
    const started = pods.map(({ attachment }) => startCall(a.namespace, "ADD", conf, attachment));
    const answers = started.map(({ answer }) => answer.catch(() => undefined));
    for (const [index, { kill }] of started.entries()) {
      if (index % 3 === 0) kill();
      if (index === PODS / 2) await agent.stop("SIGKILL");
      else await Bun.sleep(index % 5);
    }
    const results = await Promise.all(answers);
    const next = await world.agent(a);
    for (const [index, result] of results.entries()) {
      if (result?.ips !== undefined) expect(reaches(pods[index]!.namespace, SERVER[4])).toBe(true);
      else expect(index % 3).toBe(0);
    }
    // A runtime takes away what it did not hear of as well.
    for (const { attachment } of pods) must(call(a.namespace, "DEL", conf, attachment));
    expect(tracesOn(a, conf)).toEqual(before);
    expect(reaches(first.namespace, SERVER[4])).toBe(true);
    await next.stop();
  },
  TIMEOUT_MS,
);

test(
  "the CNI configuration is whole whenever it is read while it is written",
  async () => {
    const directory = mkdtempSync(join(tmpdir(), "wayout-conflist-"));
    afterThisTest(() => rmSync(directory, { recursive: true, force: true }));
    const padding = "x".repeat(64 * 1024);
    putConflist(directory, { turn: 0, padding });
    const writer = `import { putConflist } from ${JSON.stringify(join(import.meta.dir, "../../src/cni/placement.ts"))};
      for (let turn = 1; ; turn++) putConflist(process.argv[1], { turn, padding: "y".repeat((turn % 7) * 20_000) });`;
    const child = Bun.spawn([process.execPath, "-e", writer, directory]);
    afterThisTest(() => child.kill("SIGKILL"));
    const path = join(directory, "10-wayout.conflist");
    const turns = new Set<number>();
    const read = (): void => {
      turns.add((JSON.parse(readFileSync(path, "utf8")) as { readonly turn: number }).turn);
    };
    await until(() => (read(), turns.size > 1), "it is rewritten");
    for (let reads = 0; reads < READS; reads++) read();
    expect(child.exitCode).toBeNull();
    expect(turns.size).toBeGreaterThan(2);
    expect(readdirSync(directory).filter((name) => /\.(conf|conflist|json)$/.test(name))).toHaveLength(1);
  },
  TIMEOUT_MS,
);
