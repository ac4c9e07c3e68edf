/** Rules that were there and are gone: our record tells them from rules that never were, and puts them back. */
import { expect } from "bun:test";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { diagnose, type Diagnosis } from "../../src/doctor/diagnose.ts";
import { createNamedNamespace, deleteNamedNamespace } from "../../src/kernel/named-namespace.ts";
import { CNI_CACHE_DIRECTORY, cachedAttachments } from "../../src/pods/cni-cache.ts";
import { findPod } from "../../src/pods/find.ts";
import { takeSnapshot } from "../../src/snapshot/collect.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, run, testWith, type Ran } from "../support/witness.ts";
import { healthyWorld, serveInternet, PLAN, type World } from "./world.ts";

const WAYOUT = join(import.meta.dir, "..", "..", "bin", "wayout");
const POD = "ns-red";
const HTTP = PLAN.internet.httpIpv4;

/** Another pod of the lab's node, with nothing yet. */
function bareWorld(): World {
  afterThisTest(() => {
    deleteNamedNamespace(POD);
    rmSync("/run/wayout", { recursive: true, force: true });
  });
  const world = healthyWorld();
  createNamedNamespace(POD);
  return world;
}

function look(world: World): Diagnosis {
  const snapshot = takeSnapshot({ node: world.node, pods: [findPod(POD)], destinations: [HTTP] });
  return diagnose(snapshot, snapshot.pods[0]!, { address: HTTP, protocol: "tcp", port: 80 });
}

function fetches(): boolean {
  return (
    run(undefined, ["ip", "netns", "exec", POD, "curl", "-s", "-m", "5", `http://${HTTP}/`]).exitCode === 0
  );
}

function paste(command: string): Ran {
  const path = `${join(WAYOUT, "..")}:${process.env["PATH"] ?? ""}`;
  return run(undefined, ["sh", "-c", command], undefined, { ...process.env, PATH: path });
}

testWith(["root", "ip", "nft", "iptables", "curl"])(
  "what our own rules drop at somebody's wish is told with the wish, and named as ours in every backend",
  async () => {
    const world = bareWorld();
    await using _ = await serveInternet(world);
    expect(run(world.node, [WAYOUT, "attach", POD]).exitCode).toBe(0);
    expect(fetches()).toBe(true);
    const source = look(world).path.sent!.split(" ")[0]!.replace(/:\d+$/, "");
    for (const backend of ["nftables", "iptables"]) {
      const policy = JSON.stringify({ sources: [{ cidr: `${source}/32`, drop: true }], backend });
      ask(world.node, [WAYOUT, "nat", "apply", "-f", "-"], policy);
      expect(fetches()).toBe(false);
      const { findings, answer } = look(world);
      expect([backend, findings.map(({ code }) => code)]).toEqual([backend, ["nat-dropped"]]);
      expect(answer).toContain("because wayout drops what ns-red sends outside");
      expect(findings[0]!.owner).toStartWith("wayout");
      if (backend === "nftables") expect(findings[0]!.text).toContain(`as policy wants it of ${source}/32`);
      ask(world.node, [WAYOUT, "nat", "remove", "--owner", "policy"]);
      expect(look(world).findings).toEqual([]);
    }
    expect(fetches()).toBe(true);
  },
);

testWith(["root", "ip", "nft", "curl"])("what 'attach' installed, and somebody flushed", async () => {
  const world = bareWorld();
  await using _ = await serveInternet(world);
  expect(run(world.node, [WAYOUT, "attach", POD]).exitCode).toBe(0);
  expect(fetches()).toBe(true);
  expect(look(world).findings).toEqual([]);

  ask(world.node, ["nft", "flush", "ruleset"]);
  expect(fetches()).toBe(false);
  const { findings } = look(world);
  expect(findings.map((one) => one.code)).toEqual(["nat-flushed"]);
  const [found] = findings;
  expect(found!.owner).toBe("wayout (attach/wayout0)");
  expect(found!.evidence.some((one) => one.source.startsWith("/run/wayout/attachments/"))).toBe(true);
  expect(paste(found!.fix[0]!.command).exitCode).toBe(0);
  expect(fetches()).toBe(true);
  expect(look(world).findings).toEqual([]);
});

testWith(["root", "ip", "nft", "curl"])(
  "what our CNI plugin installed, and --fix puts back as it was",
  async () => {
    const world = bareWorld();
    await using _ = await serveInternet(world);
    const dataDir = `/run/wayout-test-${process.pid}`;
    afterThisTest(() => rmSync(dataDir, { recursive: true, force: true }));
    const configuration = {
      cniVersion: "1.1.0",
      name: "red-net",
      type: "wayout",
      bridge: "br-red",
      isDefaultGateway: true,
      ipMasq: true,
      ipam: { type: "host-local", dataDir, ranges: [[{ subnet: "10.77.0.0/24" }]] },
    };
    const call = (command: string): Ran =>
      run(world.node, [WAYOUT], JSON.stringify(configuration), {
        ...process.env,
        CNI_COMMAND: command,
        CNI_CONTAINERID: "red-1",
        CNI_NETNS: `/run/netns/${POD}`,
        CNI_IFNAME: "eth0",
        CNI_PATH: join(WAYOUT, ".."),
      });
    expect(call("ADD").exitCode).toBe(0);
    // The second look finds the rules in order, and notes how they look.
    expect(call("STATUS").exitCode).toBe(0);
    expect(fetches()).toBe(true);
    const before = claims(world);
    expect(before).toHaveLength(3);
    expect(look(world).findings).toEqual([]);

    ask(world.node, ["nft", "delete", "table", "inet", "wayout"]);
    expect(fetches()).toBe(false);
    const { findings } = look(world);
    expect(findings.map((one) => one.code)).toEqual(["nat-flushed"]);
    expect(findings[0]!.owner).toBe("wayout (cni/red-net)");
    expect(paste(findings[0]!.fix[0]!.command).exitCode).toBe(0);
    expect(fetches()).toBe(true);
    expect(claims(world)).toEqual(before);
    expect(call("DEL").exitCode).toBe(0);
    expect(claims(world)).toEqual([]);
  },
);

/** What the kernel remembers that the network wants. */
function claims(world: World): string[] {
  const rules = run(world.node, ["nft", "-s", "list", "table", "inet", "wayout"]).stdout;
  return rules.match(/"cni\/red-net [^"]*"/g) ?? [];
}

testWith([])("the result cache says which plugin was told to masquerade", () => {
  const directory = `/tmp/wayout-cache-${process.pid}`;
  afterThisTest(() => rmSync(directory, { recursive: true, force: true }));
  mkdirSync(directory);
  const list = { name: "a", plugins: [{ type: "bridge", ipMasq: true }, { type: "portmap" }] };
  const cached = (config: object): object => ({
    kind: "cniCacheV1",
    containerId: "c1",
    ifName: "eth0",
    networkName: "a",
    netns: "/run/netns/x",
    config: Buffer.from(JSON.stringify(config)).toString("base64"),
    result: { ips: [{ address: "10.1.0.2/16", gateway: "10.1.0.1" }] },
  });
  writeFileSync(join(directory, "a-c1-eth0"), JSON.stringify(cached(list)));
  writeFileSync(join(directory, "b-c2-eth0"), JSON.stringify(cached({ type: "ptp" })));
  writeFileSync(join(directory, "c-c3-eth0"), "{ not JSON");
  expect(CNI_CACHE_DIRECTORY).toStartWith("/var/lib/cni");
  expect(cachedAttachments(directory).map((one) => one.masqueradedBy)).toEqual(["bridge", undefined]);
});
