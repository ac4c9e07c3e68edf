import { expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { WayoutError } from "../../src/error.ts";
import { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { cachedAttachments, CNI_CACHE_DIRECTORY } from "../../src/pods/cni-cache.ts";
import { containers } from "../../src/pods/containers.ts";
import { findPod, nearestNames } from "../../src/pods/find.ts";
import { listPods, podsByAddress } from "../../src/pods/inventory.ts";
import { namespaceOf } from "../../src/pods/pod-addresses.ts";
import { openNodeOf, wiringOf } from "../../src/pods/wiring.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";

/** A pod behind a bridge on a node of its own. */
function world() {
  const node = freshNamespace("node");
  const pod = freshNamespace("pod");
  ask(node, ["ip", "link", "add", "br0", "type", "bridge"]);
  ask(node, ["ip", "link", "set", "br0", "up"]);
  ask(node, ["ip", "link", "add", "veth-a", "type", "veth", "peer", "name", "eth0", "netns", pod.name!]);
  ask(node, ["ip", "link", "set", "veth-a", "master", "br0", "up"]);
  ask(pod, ["ip", "addr", "add", "10.7.0.3/24", "dev", "eth0"]);
  ask(pod, ["ip", "link", "set", "eth0", "up"]);
  return { node, pod };
}

/** A cache entry as libcni writes it. */
function cacheEntry(containerId: string, netns: string, pod: string, address: string): void {
  const entry = {
    kind: "cniCacheV1",
    containerId,
    config: "e30=",
    ifName: "eth0",
    networkName: "net",
    netns,
    cniArgs: [
      ["IgnoreUnknown", "1"],
      ["K8S_POD_NAMESPACE", "shop"],
      ["K8S_POD_NAME", pod],
    ],
    result: {
      cniVersion: "1.0.0",
      interfaces: [{ name: "br0" }, { name: "veth-a" }, { name: "eth0", sandbox: netns }],
      ips: [{ address, gateway: "10.7.0.1", interface: 2 }],
    },
  };
  mkdirSync(CNI_CACHE_DIRECTORY, { recursive: true });
  writeFileSync(join(CNI_CACHE_DIRECTORY, `net-${containerId}-eth0`), JSON.stringify(entry));
}

testWith(["real-root"])("a pod is found by every name it has", () => {
  const { pod } = world();
  const id = "4f6dd6c0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c";
  cacheEntry(id, pod.path, "web-1", "10.7.0.3/24");
  using child = {
    process: pod.run(() => Bun.spawn(["sleep", "60"])),
    [Symbol.dispose]() {
      this.process.kill(9);
    },
  };
  try {
    for (const name of [
      pod.name!,
      pod.path,
      `pid:${child.process.pid}`,
      id,
      id.slice(0, 6),
      "shop/web-1",
      "web-1",
      "10.7.0.3",
    ]) {
      expect([name, findPod(name).inode]).toEqual([name, pod.inode]);
    }
    const found = findPod("shop/web-1");
    expect(found).toMatchObject({
      name: "shop/web-1",
      source: "cni",
      pid: child.process.pid,
      containerIds: [id],
      attachments: [{ interface: "eth0", addresses: ["10.7.0.3/24"], hostInterfaces: ["br0", "veth-a"] }],
    });
    expect(found.aliases).toContain(pod.name!);
    expect(listPods().filter((other) => other.inode === pod.inode)).toHaveLength(1);
    expect(podsByAddress().get("10.7.0.3")).toBe("shop/web-1");
  } finally {
    rmSync(CNI_CACHE_DIRECTORY, { recursive: true });
  }
});

testWith(["real-root"])(
  "an unknown name is answered with the nearest, an ambiguous one with the candidates",
  () => {
    const { pod } = world();
    const other = freshNamespace("pod");
    expect(() => findPod(`${pod.name}x`)).toThrow(
      expect.objectContaining({
        code: "unknown-pod",
        kind: "usage",
        todo: expect.stringContaining(pod.name!),
      }),
    );
    cacheEntry("aaaa1111", pod.path, "web-1", "10.7.0.3/24");
    cacheEntry("aaaa2222", other.path, "web-2", "10.7.0.4/24");
    try {
      expect(findPod("aaaa1").inode).toBe(pod.inode);
      expect(() => findPod("aaaa")).toThrow(/it could be shop\/web-1 or shop\/web-2/);
      expect(() => findPod("aaa")).toThrow(WayoutError);
    } finally {
      rmSync(CNI_CACHE_DIRECTORY, { recursive: true });
    }
  },
);

testWith(["root"])("a left-over name that is no namespace is no pod", () => {
  const { pod } = world();
  const leftover = `${dirname(pod.path)}/leftover-${process.pid}`;
  writeFileSync(leftover, "");
  try {
    expect(() => findPod(`leftover-${process.pid}`)).toThrow(
      expect.objectContaining({ code: "unknown-pod" }),
    );
    expect(listPods().map((one) => one.path)).not.toContain(leftover);
  } finally {
    rmSync(leftover);
  }
});

testWith(["root"])("the other end of a pod's veth, behind a bridge and without one", () => {
  const { node, pod } = world();
  using here = NetworkNamespace.current();
  const behind = wiringOf(pod, "eth0", [here, node])!;
  expect(behind.node.inode).toBe(node.inode);
  expect(behind.wiring.hostLink?.name).toBe("veth-a");
  expect(behind.wiring.bridge?.name).toBe("br0");
  ask(node, ["ip", "link", "add", "ptp-a", "type", "veth", "peer", "name", "eth1", "netns", pod.name!]);
  const direct = wiringOf(pod, "eth1", [node])!;
  expect(direct.wiring.hostLink?.name).toBe("ptp-a");
  expect(direct.wiring.bridge).toBeUndefined();
  expect(wiringOf(pod, "nosuch", [node])).toBeUndefined();
  using found = openNodeOf(findPod(pod.name!), pod, "eth0");
  expect(found.inode).toBe(node.inode);
});

test("the cache of every libcni: newer and older results; what is no cache is skipped", () => {
  const directory = mkdtempSync(join(tmpdir(), "wayout-cni-"));
  const base = { kind: "cniCacheV1", containerId: "c1", ifName: "eth0", networkName: "old" };
  try {
    writeFileSync(join(directory, "a"), "not json");
    writeFileSync(join(directory, "b"), JSON.stringify({ kind: "somethingElse" }));
    writeFileSync(
      join(directory, "c"),
      JSON.stringify({
        ...base,
        netns: "/run/netns/x",
        cniArgs: null,
        result: { ip4: { ip: "10.1.0.2/24", gateway: "10.1.0.1" } },
      }),
    );
    expect(cachedAttachments(directory)).toEqual([
      {
        network: "old",
        containerId: "c1",
        interface: "eth0",
        netns: "/run/netns/x",
        addresses: ["10.1.0.2/24"],
        gateways: ["10.1.0.1"],
        defaultGateways: [],
        hostInterfaces: [],
      },
    ]);
    expect(cachedAttachments(join(directory, "missing"))).toEqual([]);
    // libcni before 1.2, as in containerd 1 and podman, writes the namespace in the plugin's result alone.
    const interfaces = [
      { name: "cni0" },
      { name: "veth1", sandbox: "" },
      { name: "eth1", sandbox: "/run/netns/other" },
      { name: "eth0", sandbox: "/var/run/netns/cni-1b0c" },
    ];
    writeFileSync(join(directory, "c"), JSON.stringify({ ...base, result: { interfaces, ips: [] } }));
    expect(cachedAttachments(directory)[0]!.netns).toBe("/var/run/netns/cni-1b0c");
  } finally {
    rmSync(directory, { recursive: true });
  }
});

testWith(["root", "ip"])("a path by a process, or to a file, that leads elsewhere by now", () => {
  const pod = freshNamespace("pod");
  const child = pod.run(() => Bun.spawn(["sleep", "60"]));
  afterThisTest(() => child.kill(9));
  const netns = `/proc/${child.pid}/ns/net`;
  const addresses = ["10.9.9.2/24", "fd00:9:0::2/64"];
  // Somebody else has the number of the process that the runtime noted.
  expect(namespaceOf({ netns, addresses })).toBeUndefined();
  ask(pod, ["ip", "address", "add", "fd00:9::2/64", "dev", "lo", "nodad"]);
  expect(namespaceOf({ netns, addresses })).toBe(pod.inode);
  // The node itself does, or nobody; a name under /run/netns whose mount is gone is a plain file.
  expect(namespaceOf({ netns: `/proc/${process.pid}/ns/net`, addresses: [] })).toBeUndefined();
  expect(namespaceOf({ netns: "/proc/4194305/ns/net", addresses: [] })).toBeUndefined();
  expect(namespaceOf({ netns: "/etc/passwd", addresses: [] })).toBeUndefined();
  expect(namespaceOf({ netns: `/run/netns/${pod.name}`, addresses: [] })).toBe(pod.inode);
});

test("containers of containerd, and of podman over runc and crun", () => {
  const root = mkdtempSync(join(tmpdir(), "wayout-containers-"));
  const write = (path: string, text: string): void => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  };
  try {
    write(
      "containerd/k8s.io/abc/config.json",
      JSON.stringify({
        annotations: {
          "io.kubernetes.cri.sandbox-namespace": "default",
          "io.kubernetes.cri.sandbox-name": "web",
          "io.kubernetes.cri.container-name": "nginx",
        },
        linux: { namespaces: [{ type: "pid" }, { type: "network", path: "/proc/77/ns/net" }] },
      }),
    );
    write("containerd/k8s.io/abc/init.pid", "78\n");
    write(
      "containers.json",
      JSON.stringify([
        { id: "p1", names: ["one"] },
        { id: "p2", names: ["two"] },
      ]),
    );
    write("runc/p1/state.json", JSON.stringify({ init_process_pid: 91 }));
    write("crun/p2/status", JSON.stringify({ pid: 92 }));
    const found = containers({
      containerd: join(root, "containerd"),
      podman: [join(root, "containers.json"), join(root, "missing.json")],
      runtimes: [join(root, "runc"), join(root, "crun")],
    });
    expect(found).toEqual([
      {
        id: "abc",
        source: "containerd",
        names: ["nginx"],
        pid: 78,
        netns: "/proc/77/ns/net",
        kubernetes: { namespace: "default", name: "web" },
      },
      { id: "p1", source: "podman", names: ["one"], pid: 91 },
      { id: "p2", source: "podman", names: ["two"], pid: 92 },
    ]);
  } finally {
    rmSync(root, { recursive: true });
  }
});

test("near names", () => {
  const names = ["ns-blue", "ns-green", "default/web-1", "pid:12"];
  expect(nearestNames("ns-bleu", names)).toEqual(["ns-blue"]);
  expect(nearestNames("web", names)).toEqual(["default/web-1"]);
  expect(nearestNames("zzzzzz", names)).toEqual([]);
});
