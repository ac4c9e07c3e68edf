/** `wayout list` shows pods of CNI plugins beside attachments. */
import { expect } from "bun:test";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { ask, askJson, testWith } from "../support/witness.ts";
import {
  ended,
  freshName,
  ip,
  namespaceCalled,
  start,
  UPLINK,
  WAYOUT,
  wayout,
  wayoutJson,
  world,
} from "./world.ts";

const testRoot = testWith(["root", "ip", "nft", "curl"]);
const CACHE = "/var/lib/cni/results";

interface Listed {
  readonly namespaces: readonly {
    readonly name: string;
    readonly kind: string;
    readonly network: string;
    readonly bridge: string;
    readonly state: string;
    readonly problems: readonly { readonly code: string; readonly text: string }[];
    readonly addresses: readonly string[];
    readonly outside: readonly { readonly translation: string; readonly address: string }[];
  }[];
}

/** Has wayout's own plugin connect a namespace, and keeps the result as libcni does for its clients. */
async function addPod(
  node: NetworkNamespace,
  namespace: string,
  container: string,
  more: object = {},
): Promise<void> {
  const configuration = {
    ...more,
    cniVersion: "1.0.0",
    name: "listed",
    type: "wayout",
    bridge: "listed0",
    isGateway: true,
    isDefaultGateway: true,
    ipMasq: true,
    ipam: { type: "host-local", subnet: "10.98.0.0/24" },
  };
  const call = {
    CNI_COMMAND: "ADD",
    CNI_CONTAINERID: container,
    CNI_NETNS: `/run/netns/${namespace}`,
    CNI_IFNAME: "eth0",
    CNI_PATH: "/opt/cni/bin",
  };
  const input = `/tmp/${container}.json`;
  writeFileSync(input, JSON.stringify(configuration));
  const child = start(node, ["sh", "-c", `exec ${WAYOUT} < ${input}`], { ...process.env, ...call });
  const { exitCode, stdout } = await ended(child);
  rmSync(input);
  expect([exitCode, stdout]).toEqual([0, expect.stringContaining("10.98.0.2/24")]);
  mkdirSync(CACHE, { recursive: true });
  const cached = {
    kind: "cniCacheV1",
    containerId: container,
    config: Buffer.from(JSON.stringify(configuration)).toString("base64"),
    ifName: "eth0",
    networkName: "listed",
    netns: call.CNI_NETNS,
    cniArgs: [
      ["K8S_POD_NAMESPACE", "shop"],
      ["K8S_POD_NAME", "web-1"],
    ],
    result: JSON.parse(stdout) as object,
  };
  writeFileSync(`${CACHE}/listed-${container}-eth0`, JSON.stringify(cached));
}

/** What a runtime and host-local remember of them. */
function forgetPods(): void {
  for (const path of [CACHE, "/var/lib/cni/networks/listed"]) rmSync(path, { recursive: true, force: true });
}

testRoot("pods of a CNI plugin and attachments stand in one list", async () => {
  const { node } = world();
  const [blue, pod] = [freshName("blue"), namespaceCalled(freshName("pod"))];
  try {
    await wayoutJson(node, "attach", blue, "--create");
    await addPod(node, pod, "c0ffee");
    const { namespaces } = await wayoutJson<Listed>(node, "list");
    expect(namespaces.map(({ kind, name, state }) => [kind, name, state])).toEqual([
      ["attach", blue, "ok"],
      ["cni", "shop/web-1", "ok"],
    ]);
    expect(namespaces[1]).toMatchObject({
      network: "listed",
      bridge: "listed0",
      addresses: ["10.98.0.2/24"],
      outside: [{ translation: "masquerade", address: UPLINK.v4 }],
    });
    ip(node, "link set listed0 down");
    const broken = await wayout(node, "list");
    expect(broken.exitCode).toBe(1);
    expect(broken.stdout).toMatch(/shop\/web-1 .*✗ the bridge listed0 is down/);
    // Forwarding is the pod's, too: the last detach leaves it on.
    await wayoutJson(node, "detach", blue);
    expect(ask(node, ["sysctl", "-n", "net.ipv4.ip_forward"]).trim()).toBe("1");
    ask(undefined, ["ip", "netns", "del", pod]);
    const { stdout } = await wayout(node, "list");
    expect(stdout).toMatch(/the namespace is gone/);
  } finally {
    forgetPods();
  }
});

const NAT_MISSING = {
  code: "nat-missing",
  text: "the rules with which wayout translates the packets of network listed are gone",
};

testRoot("what the way out of a plugin's pod lacks is told", async () => {
  const { node } = world();
  const [{ dev: uplink }] = askJson<[{ dev: string }]>(node, ["ip", "-j", "route", "get", "192.0.2.1"]);
  const pod = namespaceCalled(freshName("pod"));
  const problems = async (): Promise<Listed["namespaces"][number]["problems"]> =>
    (JSON.parse((await wayout(node, "list", "--json")).stdout) as Listed).namespaces[0]!.problems;
  try {
    await addPod(node, pod, "c0ffee");
    expect(await problems()).toEqual([]);
    // Each interface decides for itself: without the switch of the family the pod has its way out, as long as these two are on.
    ask(node, ["sysctl", "-qw", "net.ipv4.ip_forward=0"]);
    for (const link of ["listed0", uplink])
      ask(node, ["sysctl", "-qw", `net.ipv4.conf.${link}.forwarding=1`]);
    expect(await problems()).toEqual([]);
    ask(node, ["sysctl", "-qw", "net.ipv4.ip_forward=1", `net.ipv4.conf.${uplink}.forwarding=0`]);
    expect(await problems()).toEqual([
      {
        code: "forwarding-off-on-interface",
        text: `IPv4 forwarding is off for ${uplink} alone: net.ipv4.conf.${uplink}.forwarding is 0`,
      },
    ]);
    ask(node, ["sysctl", "-qw", `net.ipv4.conf.${uplink}.forwarding=1`]);
    // Who wants what is still written in the table; the rules that do it are gone.
    ask(node, ["nft", "flush", "chain", "inet", "wayout", "postrouting"]);
    expect((await problems()).map(({ code }) => code)).toEqual(["nat-missing"]);
    ask(node, ["nft", "flush", "ruleset"]);
    expect(await problems()).toEqual([NAT_MISSING]);
    ask(node, ["sysctl", "-qw", "net.ipv4.ip_forward=0"]);
    ask(node, ["ip", "-4", "addr", "flush", "dev", "listed0"]);
    ask(undefined, ["ip", "-n", pod, "route", "del", "default"]);
    expect(await problems()).toEqual([
      { code: "pod-no-route", text: "the namespace has no default route through 10.98.0.1" },
      { code: "bridge-address-missing", text: "listed0 lacks the gateway address 10.98.0.1" },
      { code: "forwarding-off", text: "IPv4 forwarding is off: net.ipv4.ip_forward is 0" },
      NAT_MISSING,
    ]);
    const { exitCode, stdout } = await wayout(node, "list");
    expect([exitCode, stdout.includes("✓ ok")]).toEqual([1, false]);
  } finally {
    forgetPods();
  }
});

testWith(["root", "ip", "iptables"])(
  "a network in the iptables backend is translated in the list, too",
  async () => {
    const { node } = world();
    try {
      await addPod(node, namespaceCalled(freshName("pod")), "c0ffee", { ipMasqBackend: "iptables" });
      const { namespaces } = await wayoutJson<Listed>(node, "list");
      expect(namespaces[0]).toMatchObject({
        state: "ok",
        outside: [{ translation: "masquerade", address: UPLINK.v4 }],
      });
    } finally {
      forgetPods();
    }
  },
);

testRoot("a damaged file, loopback's results and pods that left nothing are no rows", async () => {
  const { node } = world();
  const pod = namespaceCalled(freshName("pod"));
  try {
    await addPod(node, pod, "c0ffee");
    const kept = JSON.parse(readFileSync(`${CACHE}/listed-c0ffee-eth0`, "utf8")) as { result: object };
    const beside = (name: string, changes: object): void =>
      writeFileSync(`${CACHE}/${name}`, JSON.stringify({ ...kept, ...changes }));
    beside("cni-loopback-c0ffee-lo", { ifName: "lo", networkName: "cni-loopback" });
    beside("listed-bad-eth0", { containerId: "bad", result: { ips: [{ address: "garbage/24" }] } });
    beside("listed-gone-eth0", {
      containerId: "gone",
      netns: "/run/netns/gone",
      result: { ips: [{ address: "10.98.0.77/24" }] },
    });
    writeFileSync(`${CACHE}/notes.txt`, "not JSON");
    const listed = await wayoutJson<Listed & { readonly unread: readonly { readonly path: string }[] }>(
      node,
      "list",
    );
    expect(listed.namespaces.map(({ name, state }) => [name, state])).toEqual([["shop/web-1", "ok"]]);
    expect(listed.unread.map(({ path }) => path)).toEqual([`${CACHE}/listed-bad-eth0`, `${CACHE}/notes.txt`]);
    const { stdout, stderr } = await wayout(node, "list");
    expect(stdout).toMatch(/shop\/web-1 .*✓ ok/);
    expect(stderr).toContain(`skipped ${CACHE}/listed-bad-eth0: "garbage/24" is not a CIDR`);
  } finally {
    forgetPods();
  }
});

testWith(["real-root", "ip", "setpriv"])(
  "results that only root may read: who may not is told so, with exit code 3, and hears of no empty machine",
  async () => {
    const { node } = world();
    mkdirSync(CACHE, { recursive: true, mode: 0o700 });
    try {
      const user = ["--reuid=65534", "--regid=65534", "--clear-groups", "env", "HOME=/nonexistent"];
      const { exitCode, stdout, stderr } = await ended(start(node, ["setpriv", ...user, WAYOUT, "list"]));
      expect([exitCode, stdout]).toEqual([3, "Of what could be read nothing has a way out.\n"]);
      expect(stderr).toContain(`skipped ${CACHE}: `);
      expect(stderr).toContain("EACCES");
      // Root sees that there is none.
      expect((await wayout(node, "list")).stdout).toContain("No namespace on this machine");
    } finally {
      forgetPods();
    }
  },
);
