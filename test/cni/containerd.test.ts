/** containerd, asked over its CRI socket as a kubelet asks it: pods get their addresses from us, and give them back. */
import { expect } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isIp } from "../../src/address/ip.ts";
import { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { Containerd, sandboxPid, testWithContainerd } from "../support/containerd.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, run } from "../support/witness.ts";
import { pluginProgram } from "./plugin.ts";
import { removeWorld, runtimeWorld, type RuntimeWorld } from "./runtime-world.ts";

const NETWORK = "cri-net";
/** A pod's sandbox goes through image unpacking, a shim and runc. */
const TIMEOUT_MS = 180_000;

async function startContainerd(world: RuntimeWorld): Promise<Containerd> {
  const { node, directory } = world;
  const place = {
    node,
    directory,
    binDirectory: join(directory, "bin"),
    configurationDirectory: join(directory, "net.d"),
  };
  // On a bare node: no other plugin is there, loopback neither, without which no sandbox starts.
  const directories = ["--bin-dir", place.binDirectory, "--conf-dir", place.configurationDirectory];
  const subnets = ["--subnet", "10.42.0.0/24", "--subnet", "fd00:42::/64"];
  const network = ["--name", NETWORK, "--bridge", "cni-cri7", ...subnets];
  ask(node, [pluginProgram(), "cni", "install", ...directories, ...network]);
  afterThisTest(() => removeWorld(world));
  return Containerd.start(place);
}

function reserved(): string[] {
  const directory = `/var/lib/cni/networks/${NETWORK}`;
  return existsSync(directory) ? readdirSync(directory).filter(isIp) : [];
}

interface ListJson {
  readonly namespaces: readonly { readonly name: string; readonly kind: string; readonly state: string }[];
  readonly hostNetwork: readonly string[];
}

interface GcJson {
  readonly networks: readonly {
    readonly links: readonly unknown[];
    readonly addresses: readonly unknown[];
    readonly doubts: readonly { readonly why: string }[];
  }[];
}

/** What containerd leaves behind is read as it really names it: namespaces, bundles, results, cgroups. */
async function asTheyAreNamed(world: RuntimeWorld, containerd: Containerd): Promise<void> {
  const { node, directory } = world;
  const json = <T>(...words: string[]): T =>
    JSON.parse(run(node, [pluginProgram(), ...words, "--json"]).stdout) as T;
  const uid = "5d0fb1f4-0000-4000-8000-00000000aaaa";
  const log = `/var/log/pods/default_host_${uid}`;
  const isNew = !existsSync("/var/log/pods");
  mkdirSync(log, { recursive: true });
  afterThisTest(() => rmSync(isNew ? "/var/log/pods" : log, { recursive: true }));
  const NODE = 2;
  const id = await containerd.runPod("host", {
    metadata: { name: "host", uid, namespace: "default", attempt: 0 },
    // The node's, as all of its network is.
    hostname: "",
    log_directory: log,
    linux: {
      cgroup_parent: `/kubepods/burstable/pod${uid}`,
      security_context: { namespace_options: { network: NODE } },
    },
  });
  const listed = json<ListJson>("list");
  expect(listed.namespaces.map(({ name, kind, state }) => [name, kind, state])).toEqual([
    ["default/db", "cni", "ok"],
    ["default/web", "cni", "ok"],
  ]);
  expect(listed.hostNetwork).toEqual(["default/host"]);
  expect(run(node, [pluginProgram(), "doctor", "default/host"]).stderr).toContain("hostNetwork");
  await containerd.removePod(id);
  expect(json<ListJson>("list").hostNetwork).toEqual([]);
  // One cache file is lost: the namespace has a name, which is evidence enough.
  const results = "/var/lib/cni/results";
  const lost = readdirSync(results).find((name) => name.startsWith(NETWORK))!;
  const text = readFileSync(join(results, lost));
  rmSync(join(results, lost));
  const hourAgo = Date.now() / 1000 - 3600;
  for (const address of reserved())
    utimesSync(`/var/lib/cni/networks/${NETWORK}/${address}`, hourAgo, hourAgo);
  const { networks } = json<GcJson>("cni", "gc", "--conf-dir", join(directory, "net.d"));
  expect(networks).toMatchObject([
    { links: [], addresses: [], doubts: [{ why: expect.stringContaining("/run/netns/cni-") }] },
  ]);
  writeFileSync(join(results, lost), text, { mode: 0o600 });
}

testWithContainerd(
  "pods of a kubelet: ready, with our addresses, a way out and a name in the cache; nothing stays",
  async () => {
    const world = runtimeWorld();
    const containerd = await startContainerd(world);
    await containerd.untilNetworkReady();
    const ids = await Promise.all(["web", "db"].map((name) => containerd.runPod(name)));
    for (const id of ids) {
      const sandbox = await containerd.status(id);
      const { status } = sandbox;
      expect(status.state).toBe("SANDBOX_READY");
      expect(status.network.ip).toStartWith("10.42.0.");
      expect(status.network.additional_ips[0]!.ip).toStartWith("fd00:42::");
      using pod = NetworkNamespace.ofProcess(sandboxPid(sandbox));
      expect(run(pod, ["ping", "-c1", "-W5", "203.0.113.1"]).exitCode).toBe(0);
      expect(run(pod, ["ping", "-c1", "-W5", "2001:db8:1::1"]).exitCode).toBe(0);
    }
    expect(reserved()).toHaveLength(4);
    await asTheyAreNamed(world, containerd);
    const cache = readdirSync("/var/lib/cni/results").filter((name) => name.startsWith(NETWORK));
    expect(cache.map((name) => readFileSync(`/var/lib/cni/results/${name}`, "utf8")).join("")).toContain(
      "K8S_POD_NAME",
    );
    for (const id of ids) await containerd.removePod(id);
    expect(reserved()).toEqual([]);
    expect(ask(world.node, ["ip", "-br", "link"])).not.toContain("wout");
    expect(ask(world.node, ["nft", "list", "ruleset"])).toBe("");
  },
  TIMEOUT_MS * 2,
);
