/** Attachments from first to last: real traffic, repair, garbage. */
import { describe, expect } from "bun:test";
import { rmSync } from "node:fs";
import { ask, run, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";
import { nodeWithOutside, pings, podLinks, reserved } from "./node.ts";
import { bridgeNetwork, call, freshPod, must } from "./plugin.ts";

const withPrograms = testWith(["root", "ip", "nft", "ping"]);

describe("a pod's way out", () => {
  withPrograms(
    "reaches an outside that has no route back, in both families, and nothing is left behind",
    () => {
      const { node } = nodeWithOutside();
      const ranges = [[{ subnet: "10.42.0.0/24" }], [{ subnet: "fd00:42::/64" }]];
      const conf = bridgeNetwork({ ipam: { type: "host-local", ranges } });
      const pod = freshPod();
      must(call(node, "ADD", conf, pod));
      expect(pings(pod.namespace, "198.51.100.1")).toBe(true);
      expect(pings(pod.namespace, "2001:db8:1::1")).toBe(true);
      must(call(node, "DEL", conf, pod));
      expect(podLinks(node)).toEqual([]);
      expect(reserved(conf)).toEqual([]);
      expect(ask(node, ["nft", "list", "ruleset"])).toBe("");
    },
  );

  withPrograms("macspoofchk: a pod that changes its MAC is not heard; CHECK sees a missing check", () => {
    const { node } = nodeWithOutside();
    const conf = bridgeNetwork({ macspoofchk: true });
    const pod = freshPod();
    const result = must(call(node, "ADD", conf, pod));
    must(call(node, "CHECK", { ...conf, prevResult: result }, pod));
    expect(pings(pod.namespace, "10.42.0.1")).toBe(true);
    const mac = result.interfaces![2]!.mac!;
    ask(pod.namespace, ["ip", "link", "set", "eth0", "address", "02:00:00:00:00:66"]);
    expect(pings(pod.namespace, "10.42.0.1")).toBe(false);
    ask(pod.namespace, ["ip", "link", "set", "eth0", "address", mac]);
    ask(node, ["nft", "delete", "table", "bridge", "wayout"]);
    expect(call(node, "CHECK", { ...conf, prevResult: result }, pod).json?.msg).toContain("macspoofchk");
    must(call(node, "DEL", conf, pod));
  });

  withPrograms("connections of an earlier pod with the same address are forgotten", () => {
    const { node } = nodeWithOutside();
    const conf = bridgeNetwork({ runtimeConfig: { ips: ["10.42.0.9"] } });
    const first = freshPod("first");
    must(call(node, "ADD", conf, first));
    expect(pings(first.namespace, "198.51.100.1")).toBe(true);
    const tracked = (): string => run(node, ["conntrack", "-L", "-s", "10.42.0.9"]).stdout;
    if (Bun.which("conntrack") !== null) expect(tracked()).toContain("src=10.42.0.9");
    must(call(node, "DEL", conf, first));
    must(call(node, "ADD", conf, freshPod("second")));
    expect(tracked()).toBe("");
  });
});

describe("repair", () => {
  const breaks: readonly (readonly [string, readonly string[], RegExp, boolean])[] = [
    ["the rules were flushed", ["nft", "flush", "ruleset"], /table inet wayout is missing/, true],
    [
      "forwarding was turned off",
      ["sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward"],
      /forwarding is off/,
      true,
    ],
    [
      "the bridge lost its gateway address",
      ["ip", "address", "flush", "dev", "cni0"],
      /lacks the gateway address/,
      true,
    ],
    [
      "the port was taken off the bridge",
      ["sh", "-c", "ip link set $(ip -br link show type veth | grep -o 'wout[a-z2-7]*') nomaster"],
      /is not a port of cni0/,
      false,
    ],
    ["the bridge is down", ["ip", "link", "set", "cni0", "down"], /bridge cni0 is down/, true],
  ];
  for (const [name, command, message, mended] of breaks) {
    withPrograms(
      `CHECK sees it, and the next ADD ${mended ? "mends it" : "is not hurt by it"}: ${name}`,
      () => {
        const { node } = nodeWithOutside();
        const conf = bridgeNetwork();
        const pod = freshPod("one");
        const result = must(call(node, "ADD", conf, pod));
        must(call(node, "CHECK", { ...conf, prevResult: result }, pod));
        must(call(node, "STATUS", conf));
        ask(node, command);
        const broken = call(node, "CHECK", { ...conf, prevResult: result }, pod);
        expect(broken.json?.msg).toMatch(message);
        expect(broken.json?.code).toBe(110);
        must(call(node, "ADD", conf, freshPod("two")));
        if (!mended) return;
        must(call(node, "CHECK", { ...conf, prevResult: result }, pod));
        must(call(node, "STATUS", conf));
        expect(pings(pod.namespace, "198.51.100.1")).toBe(true);
      },
    );
  }

  const inside: readonly (readonly [string, readonly string[], RegExp])[] = [
    ["its interface is gone", ["ip", "link", "delete", "eth0"], /eth0 is missing in the pod/],
    ["its address is gone", ["ip", "address", "flush", "dev", "eth0"], /10.42.0.2\/24 is not on eth0/],
    [
      "its default route is gone",
      ["ip", "route", "delete", "default"],
      /no route to 0.0.0.0\/0 through 10.42.0.1/,
    ],
    ["its interface is down", ["ip", "link", "set", "eth0", "down"], /eth0 in the pod is down/],
  ];
  for (const [name, command, message] of inside) {
    withPrograms(`CHECK sees what broke in the pod: ${name}`, () => {
      const node = freshNamespace("node");
      const conf = bridgeNetwork();
      const pod = freshPod();
      const result = must(call(node, "ADD", conf, pod));
      ask(pod.namespace, command);
      expect(call(node, "CHECK", { ...conf, prevResult: result }, pod).json?.msg).toMatch(message);
    });
  }

  withPrograms("CHECK sees a reservation that is lost", () => {
    const node = freshNamespace("node");
    const conf = bridgeNetwork();
    const pod = freshPod();
    const result = must(call(node, "ADD", conf, pod));
    rmSync(`/var/lib/cni/networks/${String(conf["name"])}/10.42.0.2`);
    expect(call(node, "CHECK", { ...conf, prevResult: result }, pod).json?.code).toBe(110);
    expect(call(node, "CHECK", conf, pod).json?.code).toBe(7);
  });

  withPrograms("STATUS: 51 when those who are attached lost their rules, 50 when no address is left", () => {
    const node = freshNamespace("node");
    const tiny = { type: "host-local", subnet: "10.42.0.0/30" };
    const conf = bridgeNetwork({ ipam: tiny });
    must(call(node, "STATUS", conf));
    must(call(node, "ADD", conf, freshPod("one")));
    const full = call(node, "STATUS", conf);
    expect(full.json?.code).toBe(50);
    expect(call(node, "ADD", conf, freshPod("two")).json?.code).toBe(101);
    ask(node, ["nft", "flush", "ruleset"]);
    const wide = { ...conf, ipam: { type: "host-local", subnet: "10.42.0.0/24" } };
    expect(call(node, "STATUS", wide).json?.code).toBe(51);
    ask(node, ["ip", "link", "delete", "cni0"]);
    ask(node, ["ip", "link", "add", "cni0", "type", "veth", "peer", "name", "other"]);
    expect(call(node, "STATUS", wide).json?.code).toBe(50);
  });

  withPrograms("in the steady state neither ADD nor DEL makes a transaction", () => {
    const node = freshNamespace("node");
    const conf = bridgeNetwork();
    must(call(node, "ADD", conf, freshPod("one")));
    const watch = (): string => run(node, ["nft", "-j", "list", "ruleset"]).stdout;
    const before = watch();
    ask(node, ["nft", "add", "table", "ip", "marker"]);
    const pods = ["two", "three", "four"].map((name) => freshPod(name));
    for (const pod of pods) must(call(node, "ADD", conf, pod));
    for (const pod of pods) must(call(node, "DEL", conf, pod));
    ask(node, ["nft", "delete", "table", "ip", "marker"]);
    // Handles count transactions' objects: rules made anew would have others.
    expect(watch()).toBe(before);
  });
});

describe("DEL and GC", () => {
  withPrograms("DEL twice, without a namespace, and when the namespace is gone", () => {
    const node = freshNamespace("node");
    const conf = bridgeNetwork();
    const pod = freshPod();
    must(call(node, "ADD", conf, pod));
    must(call(node, "DEL", conf, { container: "pod1" }));
    expect(podLinks(node)).toEqual([]);
    expect(reserved(conf)).toEqual([]);
    must(call(node, "DEL", conf, { container: "pod1" }));
    must(call(node, "DEL", { ...conf, prevResult: {} }, pod));
    must(call(node, "DEL", conf, { container: "never", netns: "/run/netns/never" }));
  });

  withPrograms("after a reboot the reservation alone is there, and goes", () => {
    const conf = bridgeNetwork();
    const before = freshNamespace("node");
    must(call(before, "ADD", conf, freshPod()));
    // Another boot: the disk is the same, the kernel knows nothing.
    const after = freshNamespace("node");
    rmSync("/run/wayout", { recursive: true, force: true });
    must(call(after, "STATUS", conf));
    must(call(after, "DEL", conf, { container: "pod1", netns: "/run/netns/gone" }));
    expect(reserved(conf)).toEqual([]);
    must(call(after, "ADD", conf, freshPod()));
  });

  withPrograms("GC removes what is not listed: links, addresses, checks; with nobody left, the rules", () => {
    const node = freshNamespace("node");
    const conf = bridgeNetwork({ macspoofchk: true });
    for (const name of ["one", "two", "three"]) must(call(node, "ADD", conf, freshPod(name)));
    const other = bridgeNetwork({ bridge: "cni1", ipam: { type: "host-local", subnet: "10.77.0.0/24" } });
    must(call(node, "ADD", other, freshPod("one")));
    const keep = [{ containerID: "two", ifname: "eth0" }];
    expect(call(node, "GC", conf).json?.code).toBe(7);
    must(call(node, "GC", { ...conf, "cni.dev/valid-attachments": keep, "cni.dev/attachments": keep }));
    expect(podLinks(node)).toHaveLength(2);
    expect(reserved(conf)).toEqual(["10.42.0.3"]);
    expect(
      ask(node, ["nft", "list", "set", "bridge", "wayout", "checked_ports"]).match(/"wout/g),
    ).toHaveLength(1);
    must(call(node, "GC", { ...conf, "cni.dev/valid-attachments": [] }));
    const rules = ask(node, ["nft", "list", "ruleset"]);
    expect(rules).not.toContain(String(conf["name"]));
    expect(rules).toContain(String(other["name"]));
  });
});
