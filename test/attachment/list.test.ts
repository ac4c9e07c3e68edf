/** `wayout list` shows pods of CNI plugins beside attachments. */
import { expect } from "bun:test";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { ask, testWith } from "../support/witness.ts";
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
    readonly problems: readonly string[];
    readonly addresses: readonly string[];
    readonly outside: readonly { readonly translation: string; readonly address: string }[];
  }[];
}

/** Has wayout's own plugin connect a namespace, and keeps the result as libcni does for its clients. */
async function addPod(node: NetworkNamespace, namespace: string, container: string): Promise<void> {
  const configuration = {
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
    rmSync(CACHE, { recursive: true, force: true });
  }
});
