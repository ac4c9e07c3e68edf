/** `ipMasq` and its kin: as whom the outside sees a pod, by either backend. */
import { expect } from "bun:test";
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { namesIn, namespaceDirectory } from "../../src/nat/backends/ebpf/bpf-directory.ts";
import { ask, testWith } from "../support/witness.ts";
import { nodeWithOutside, pings } from "./node.ts";
import {
  bridgeNetwork,
  call,
  type Configuration,
  environmentOf,
  freshPod,
  must,
  pluginProgram,
  REFERENCE_DIRECTORY,
} from "./plugin.ts";

const PROGRAMS = ["root", "ip", "nft", "ping", "iptables", "ip6tables"];
const withPrograms = testWith(PROGRAMS);
const withReference = testWith([
  ...PROGRAMS,
  ...(existsSync(REFERENCE_DIRECTORY) ? [] : ["containernetworking-plugins"]),
]);

const DUAL = { type: "host-local", ranges: [[{ subnet: "10.42.0.0/24" }], [{ subnet: "fd00:42::/64" }]] };

/** In the outside: who the echo requests and UDP packets came from. */
class Seen {
  constructor(private readonly outside: NetworkNamespace) {
    ask(outside, ["nft", "-f", "-"], SEEN_RULES);
  }
  from(family: 4 | 6): string[] {
    return this.#elements(`pings${family}`);
  }
  get udpPorts(): number[] {
    return this.#elements("ports").map(Number);
  }
  #elements(set: string): string[] {
    const listed = ask(this.outside, ["nft", "-j", "list", "set", "inet", "seen", set]);
    const { nftables } = JSON.parse(listed) as {
      nftables: { set?: { elem?: (string | number | { elem: { val: string | number } })[] } }[];
    };
    const elements = nftables.find((item) => item.set !== undefined)!.set!.elem ?? [];
    ask(this.outside, ["nft", "flush", "set", "inet", "seen", set]);
    return elements.map((element) => String(typeof element === "object" ? element.elem.val : element));
  }
}
const SEEN_RULES = `table inet seen {
  set pings4 { type ipv4_addr; flags dynamic; size 100; }
  set pings6 { type ipv6_addr; flags dynamic; size 100; }
  set ports { type inet_service; flags dynamic; size 1000; }
  chain input {
    type filter hook input priority 0;
    icmp type echo-request add @pings4 { ip saddr }
    icmpv6 type echo-request add @pings6 { ip6 saddr }
    udp dport 9 add @ports { udp sport }
  }
}`;

/** A node whose outside knows the way back to the pods: both a translated and an untranslated ping are answered. */
function openWorld() {
  const { node, outside } = nodeWithOutside();
  ask(outside, ["ip", "route", "add", "10.42.0.0/24", "via", "203.0.113.5"]);
  ask(outside, ["ip", "-6", "route", "add", "fd00:42::/64", "via", "2001:db8:1::5"]);
  ask(outside, ["ip", "address", "add", "192.0.2.1/32", "dev", "lo"]);
  for (const last of [77, 78]) ask(node, ["ip", "address", "add", `203.0.113.${last}/24`, "dev", "up0"]);
  // Deprecated: nobody takes it who is not told to.
  const deprecated = ["preferred_lft", "0", "nodad"];
  ask(node, ["ip", "-6", "address", "add", "2001:db8:1::77/64", "dev", "up0", ...deprecated]);
  return { node, outside, seen: new Seen(outside) };
}

const NODE = ["203.0.113.5", "2001:db8:1::5"] as const;
const POD = ["10.42.0.2", "fd00:42::2"] as const;
const cases: readonly (readonly [string, Configuration, string, string | RegExp])[] = [
  ["ipMasq false", { ipMasq: false }, POD[0], POD[1]],
  ["ipMasq true", { ipMasq: true }, NODE[0], NODE[1]],
  ["masquerade v4 alone", { ipMasq: false, masquerade: { v4: true } }, NODE[0], POD[1]],
  ["masquerade v6 alone", { ipMasq: false, masquerade: { v6: true } }, POD[0], NODE[1]],
  ["ipMasq, but not v6", { ipMasq: true, masquerade: { v6: false } }, NODE[0], POD[1]],
  ["snat, one address", { ipMasq: false, snat: "203.0.113.77" }, "203.0.113.77", POD[1]],
  [
    "snat, both families",
    { snat: ["203.0.113.77", "2001:db8:1::77"], ipMasq: false },
    "203.0.113.77",
    "2001:db8:1::77",
  ],
  ["snat beside ipMasq", { ipMasq: true, snat: "203.0.113.77" }, "203.0.113.77", NODE[1]],
];
for (const ipMasqBackend of ["nftables", "iptables", "ebpf"] as const) {
  const withBackend = ipMasqBackend === "ebpf" ? testWith([...PROGRAMS, "real-root"]) : withPrograms;
  for (const [name, extra, v4, v6] of cases) {
    withBackend(`${name}, by ${ipMasqBackend}`, () => {
      const { node, seen } = openWorld();
      const pod = freshPod();
      const conf = bridgeNetwork({ ipam: DUAL, ipMasqBackend, ...extra });
      const result = must(call(node, "ADD", conf, pod));
      expect(pings(pod.namespace, "198.51.100.1")).toBe(true);
      expect(pings(pod.namespace, "2001:db8:1::1")).toBe(true);
      expect(seen.from(4)).toEqual([v4]);
      expect(seen.from(6)).toEqual([String(v6)]);
      // Among pods of the network nobody is translated.
      expect(pings(pod.namespace, "10.42.0.1")).toBe(true);
      must(call(node, "CHECK", { ...conf, prevResult: result }, pod));
      must(call(node, "DEL", conf, pod));
      expect(ask(node, ["nft", "list", "ruleset"])).not.toMatch(/10\.42\.0|fd00:42/);
    });
  }
}

testWith([...PROGRAMS, "real-root"])(
  "ipMasqBackend ebpf: programs and no table that translates; CHECK misses them, STATUS and ADD mend them",
  () => {
    const { node, seen } = openWorld();
    const pod = freshPod("one");
    const conf = bridgeNetwork({ ipam: DUAL, ipMasqBackend: "ebpf" });
    const result = must(call(node, "ADD", conf, pod));
    expect(ask(node, ["nft", "list", "ruleset"])).not.toMatch(/masquerade|snat/);
    const directory = namespaceDirectory(node)!;
    const lose = (): void => {
      for (const name of namesIn(directory)!) rmSync(join(directory, name));
    };
    lose();
    expect(call(node, "CHECK", { ...conf, prevResult: result }, pod).json?.code).toBe(110);
    must(call(node, "STATUS", conf));
    must(call(node, "CHECK", { ...conf, prevResult: result }, pod));
    lose();
    must(call(node, "ADD", conf, freshPod("two")));
    must(call(node, "CHECK", { ...conf, prevResult: result }, pod));
    expect(pings(pod.namespace, "198.51.100.1")).toBe(true);
    expect(seen.from(4)).toEqual(["203.0.113.5"]);
    for (const container of ["one", "two"]) must(call(node, "DEL", conf, { container }));
    expect(namesIn(directory)).toBeUndefined();
    expect(ask(node, ["nft", "list", "ruleset"])).toBe("");
  },
);

/** A container that has not been given the node's file system for BPF. */
const WITHOUT_BPF = [
  "unshare",
  "--mount",
  "--pid",
  "--fork",
  "--mount-proc",
  "sh",
  "-c",
  'while umount /sys/fs/bpf 2>/dev/null; do :; done; exec "$0"',
];

testWith([...PROGRAMS, "real-root", "unshare"])(
  "ipMasqBackend ebpf: STATUS says beforehand what a container lacks for it",
  () => {
    const { node } = openWorld();
    const status = (conf: Configuration): string =>
      node
        .run(
          () =>
            Bun.spawnSync([...WITHOUT_BPF, pluginProgram()], {
              stdin: Buffer.from(JSON.stringify(conf)),
              env: environmentOf("STATUS", {}),
            }).stdout,
        )
        .toString();
    expect(JSON.parse(status(bridgeNetwork({ ipMasqBackend: "ebpf" })))).toMatchObject({
      code: 50,
      details: expect.stringMatching(/mount -t bpf .*nftables/),
    });
    expect(status(bridgeNetwork({ ipMasqBackend: "nftables" }))).toBe("");
  },
);

withPrograms(
  "ipMasqBackend iptables: rules of iptables and no table of ours; CHECK misses them, STATUS and ADD mend them",
  () => {
    const { node, seen } = openWorld();
    const pod = freshPod("one");
    const conf = bridgeNetwork({ ipam: DUAL, ipMasqBackend: "iptables" });
    const result = must(call(node, "ADD", conf, pod));
    for (const program of ["iptables", "ip6tables"]) {
      expect(ask(node, [program, "-t", "nat", "-S"])).toMatch(/-j MASQUERADE --random-fully/);
    }
    expect(ask(node, ["nft", "list", "tables"])).not.toContain("wayout");
    ask(node, ["iptables", "-t", "nat", "-F"]);
    expect(call(node, "CHECK", { ...conf, prevResult: result }, pod).json?.code).toBe(110);
    must(call(node, "STATUS", conf));
    must(call(node, "CHECK", { ...conf, prevResult: result }, pod));
    ask(node, ["iptables", "-t", "nat", "-F"]);
    must(call(node, "ADD", conf, freshPod("two")));
    must(call(node, "CHECK", { ...conf, prevResult: result }, pod));
    must(call(node, "STATUS", conf));
    expect(pings(pod.namespace, "198.51.100.1")).toBe(true);
    expect(seen.from(4)).toEqual(["203.0.113.5"]);
    for (const container of ["one", "two"]) must(call(node, "DEL", conf, { container }));
    for (const program of ["iptables", "ip6tables"]) {
      expect(ask(node, [program, "-t", "nat", "-S"])).not.toContain("MASQUERADE");
    }
  },
);

withPrograms("nonMasqueradeCIDRs: these destinations see the pod itself, in both families", () => {
  const { node, seen } = openWorld();
  const pod = freshPod();
  const nonMasqueradeCIDRs = ["192.0.2.0/24", "2001:db8:1::1/128"];
  must(call(node, "ADD", bridgeNetwork({ ipam: DUAL, nonMasqueradeCIDRs }), pod));
  expect(pings(pod.namespace, "192.0.2.1") && pings(pod.namespace, "2001:db8:1::1")).toBe(true);
  expect([...seen.from(4), ...seen.from(6)]).toEqual([...POD]);
  expect(pings(pod.namespace, "198.51.100.1")).toBe(true);
  expect(seen.from(4)).toEqual([NODE[0]]);
});

/** One UDP packet from each of many sockets. */
function sendUdp(pod: NetworkNamespace, packets: number): void {
  const script = `const { createSocket } = require("node:dgram");
    for (let i = 0; i < ${packets}; i++) {
      const socket = createSocket("udp4");
      socket.bind(20000 + i, () => socket.send("x", 9, "198.51.100.1", () => socket.close()));
    }`;
  ask(pod, [process.execPath, "-e", script]);
}

withPrograms(
  "portRange: the outside sees source ports of this range only; snat with a range of addresses",
  () => {
    const { node, seen } = openWorld();
    const pod = freshPod();
    const conf = bridgeNetwork({ portRange: "40000-40099", snat: "203.0.113.77-203.0.113.78" });
    must(call(node, "ADD", conf, pod));
    sendUdp(pod.namespace, 20);
    const ports = seen.udpPorts;
    expect(ports.length).toBeGreaterThan(10);
    expect(ports.every((number) => number >= 40000 && number <= 40099)).toBe(true);
    expect(pings(pod.namespace, "198.51.100.1")).toBe(true);
    expect(["203.0.113.77", "203.0.113.78"]).toContain(seen.from(4)[0]!);
  },
);

withPrograms("randomFully: by default the source ports are new ones; false keeps the pod's own", () => {
  const { node, seen } = openWorld();
  const [one, two] = [freshPod("one"), freshPod("two")];
  must(call(node, "ADD", bridgeNetwork(), one));
  sendUdp(one.namespace, 20);
  const random = seen.udpPorts;
  expect(random).toHaveLength(20);
  // Of 64 512 ports none of twenty is its own again, but for one run in a hundred and fifty: hence not all of them.
  expect(random.filter((number) => number < 20000 || number >= 20020).length).toBeGreaterThan(15);
  const conf = bridgeNetwork({
    bridge: "cni1",
    randomFully: false,
    ipam: { type: "host-local", subnet: "10.43.0.0/24" },
  });
  must(call(node, "ADD", conf, two));
  sendUdp(two.namespace, 20);
  expect(seen.udpPorts.toSorted((a, b) => a - b)).toEqual(
    Array.from({ length: 20 }, (_, index) => 20000 + index),
  );
});

for (const ipMasqBackend of ["nftables", "iptables"] as const) {
  withPrograms(`a cloud's metadata service, which is link-local, sees the node, by ${ipMasqBackend}`, () => {
    const { node, outside, seen } = openWorld();
    ask(outside, ["ip", "address", "add", "169.254.169.254/32", "dev", "lo"]);
    ask(node, ["ip", "route", "add", "169.254.169.254/32", "via", "203.0.113.1"]);
    const pod = freshPod();
    must(call(node, "ADD", bridgeNetwork({ ipMasqBackend }), pod));
    expect(pings(pod.namespace, "169.254.169.254")).toBe(true);
    expect(seen.from(4)).toEqual([NODE[0]]);
  });

  withReference(`only what comes from the network's own bridge is translated, by ${ipMasqBackend}`, () => {
    const { node, outside, seen } = openWorld();
    ask(outside, ["ip", "route", "add", "10.0.0.0/8", "via", "203.0.113.5"]);
    // A pod of another node, whose way out leads through this one.
    const far = freshPod("far").namespace;
    ask(node, ["ip", "link", "add", "peer0", "type", "veth", "peer", "name", "eth0", "netns", far.name!]);
    ask(node, ["ip", "address", "add", "192.0.2.9/31", "dev", "peer0"]);
    ask(far, ["ip", "address", "add", "10.42.9.9/32", "dev", "eth0"]);
    for (const [place, name] of [
      [node, "peer0"],
      [far, "eth0"],
    ] as const) {
      ask(place, ["ip", "link", "set", name, "up"]);
    }
    ask(far, ["ip", "route", "add", "default", "via", "192.0.2.9", "dev", "eth0", "onlink"]);
    ask(node, ["ip", "route", "add", "10.42.9.9/32", "dev", "peer0"]);
    // A cluster's subnet, of which this node gives a part; a static address whose prefix holds everybody's.
    const part = { subnet: "10.42.0.0/16", rangeStart: "10.42.0.10", rangeEnd: "10.42.0.20" };
    const cluster = bridgeNetwork({ ipMasqBackend, ipam: { type: "host-local", ranges: [[part]] } });
    const addresses = [{ address: "10.5.0.7/8", gateway: "10.5.0.1" }];
    const wide = bridgeNetwork({
      cniVersion: "1.0.0",
      ipMasqBackend,
      bridge: "wide0",
      ipam: { type: "static", addresses, routes: [{ dst: "0.0.0.0/0" }] },
    });
    const plain = bridgeNetwork({
      bridge: "plain0",
      ipMasq: false,
      ipam: { type: "host-local", subnet: "10.99.0.0/24" },
    });
    const seenOf = (conf: Configuration): string[] => {
      const pod = freshPod(String(conf["name"]));
      must(call(node, "ADD", conf, pod));
      expect(pings(pod.namespace, "198.51.100.1")).toBe(true);
      return seen.from(4);
    };
    expect([seenOf(cluster), seenOf(wide), seenOf(plain)]).toEqual([[NODE[0]], [NODE[0]], ["10.99.0.2"]]);
    expect(pings(far, "198.51.100.1")).toBe(true);
    expect(seen.from(4)).toEqual(["10.42.9.9"]);
  });
}

withPrograms(
  "pods of a bridge that the network had before keep their translation beside those of the new one",
  () => {
    const { node, seen } = openWorld();
    const conf = bridgeNetwork({
      isDefaultGateway: false,
      ipam: { ...DUAL, routes: [{ dst: "0.0.0.0/0" }] },
    });
    const [old, young] = [freshPod("old"), freshPod("young")];
    must(call(node, "ADD", { ...conf, isDefaultGateway: true }, old));
    must(
      call(
        node,
        "ADD",
        { ...conf, bridge: "cni1", isGateway: true, ipam: { type: "host-local", subnet: "10.43.0.0/24" } },
        young,
      ),
    );
    expect(pings(old.namespace, "198.51.100.1")).toBe(true);
    expect(seen.from(4)).toEqual([NODE[0]]);
  },
);

withPrograms("what a policy leaves untranslated is left so by ipMasq, and `nat apply` tells of it", () => {
  const { node, seen } = openWorld();
  const pod = freshPod();
  const conf = bridgeNetwork();
  const result = must(call(node, "ADD", conf, pod));
  const policy = "sources: [10.42.0.0/16]\nnonMasqueradeCIDRs: [192.0.2.0/24]\n";
  const applied = ask(node, [pluginProgram(), "nat", "apply", "-f", "-"], policy);
  expect(applied).toContain(`leaves as cni/${String(conf["name"])} has it, and untranslated to `);
  expect(applied).toContain("192.0.2.0/24 as the policy has it");
  expect(pings(pod.namespace, "192.0.2.1") && pings(pod.namespace, "198.51.100.1")).toBe(true);
  expect(seen.from(4)).toEqual([POD[0], NODE[0]]);
  must(call(node, "CHECK", { ...conf, prevResult: result }, pod));
  ask(node, [pluginProgram(), "nat", "remove"]);
  expect(pings(pod.namespace, "192.0.2.1")).toBe(true);
  expect(seen.from(4)).toEqual([NODE[0]]);
});

for (const [before, after] of [
  ["nftables", "iptables"],
  ["iptables", "nftables"],
] as const) {
  withPrograms(
    `ipMasqBackend changed from ${before} to ${after} while a pod is attached: nothing stays`,
    () => {
      const { node, seen } = openWorld();
      const [old, young] = [freshPod("old"), freshPod("young")];
      const conf = bridgeNetwork({ ipMasqBackend: before });
      must(call(node, "ADD", conf, old));
      const changed = { ...conf, ipMasqBackend: after };
      must(call(node, "ADD", changed, young));
      const rules = (): string =>
        ask(node, ["iptables-save", "-t", "nat"]) + ask(node, ["nft", "list", "tables"]);
      for (const { namespace } of [old, young]) expect(pings(namespace, "198.51.100.1")).toBe(true);
      expect(seen.from(4)).toEqual([NODE[0]]);
      must(call(node, "DEL", conf, old));
      must(call(node, "DEL", changed, young));
      expect(rules()).not.toMatch(/wayout|WAYOUT/);
    },
  );
}
