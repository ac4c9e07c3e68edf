/** What people rely on beyond the results: the plugin behaves as the one that it replaces, whatever a runtime does. */
import { describe, expect } from "bun:test";
import { existsSync } from "node:fs";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { ask, askJson, run, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";
import { addressesOn, linkNames, nodeWithOutside, pings, podLinks, reserved } from "./node.ts";
import {
  bridgeNetwork,
  call,
  environmentOf,
  freshPod,
  must,
  pluginDirectory,
  rawCall,
  REFERENCE_DIRECTORY,
  type Configuration,
} from "./plugin.ts";

const PROGRAMS = ["root", "ip", "nft", "ping", "sysctl"];
const withPrograms = testWith(PROGRAMS);
const withMounts = testWith([...PROGRAMS, "unshare", "mount"]);
const withReference = testWith([
  ...PROGRAMS,
  "iptables",
  "iptables-legacy",
  ...(existsSync(REFERENCE_DIRECTORY) ? [] : ["containernetworking-plugins"]),
]);

const RANGE = { type: "host-local", subnet: "10.42.0.0/24" };
const IPV6 = { type: "host-local", ranges: [[{ subnet: "fd00:42::/64" }]] };
const DUAL = { type: "host-local", ranges: [[{ subnet: "10.42.0.0/24" }], [{ subnet: "fd00:42::/64" }]] };

function defaultRoutes(pod: NetworkNamespace, family: "-4" | "-6", table = "main"): object[] {
  return askJson<{ dst: string; gateway?: string; flags: string[] }[]>(pod, [
    "ip",
    family,
    "-j",
    "route",
    "show",
    "table",
    table,
    "default",
  ]).map(({ gateway, flags }) => ({ gateway, flags }));
}

describe("routes and gateways", () => {
  withPrograms("isDefaultGateway beside a default route in ipam.routes is one route", () => {
    const node = freshNamespace("node");
    const pod = freshPod();
    const routes = [{ dst: "0.0.0.0/0" }, { dst: "::/0" }, { dst: "192.0.2.0/24" }, { dst: "192.0.2.0/24" }];
    const conf = bridgeNetwork({ ipam: { ...DUAL, routes } });
    const result = must(call(node, "ADD", conf, pod));
    expect(defaultRoutes(pod.namespace, "-4")).toEqual([{ gateway: "10.42.0.1", flags: [] }]);
    expect(defaultRoutes(pod.namespace, "-6")).toEqual([{ gateway: "fd00:42::1", flags: [] }]);
    expect(result.routes?.filter(({ dst }) => dst.endsWith("/0"))).toHaveLength(2);
    must(call(node, "CHECK", { ...conf, prevResult: result }, pod));
  });

  withPrograms("a default route of another table is another route", () => {
    const pod = freshPod();
    const routes = [{ dst: "0.0.0.0/0", table: 100 }];
    must(call(freshNamespace("node"), "ADD", bridgeNetwork({ ipam: { ...RANGE, routes } }), pod));
    expect(defaultRoutes(pod.namespace, "-4")).toHaveLength(1);
    expect(defaultRoutes(pod.namespace, "-4", "100")).toHaveLength(1);
  });

  withPrograms("a gateway outside of the subnet: link-local, and an IPv4 one on the link", () => {
    const { node } = nodeWithOutside();
    const pod = freshPod();
    const ranges = [
      [{ subnet: "10.42.0.0/24", gateway: "192.0.2.77" }],
      [{ subnet: "fd00:42::/64", gateway: "fe80::1" }],
    ];
    const conf = bridgeNetwork({ ipam: { type: "host-local", ranges } });
    const result = must(call(node, "ADD", conf, pod));
    expect(defaultRoutes(pod.namespace, "-4")).toEqual([{ gateway: "192.0.2.77", flags: ["onlink"] }]);
    expect(defaultRoutes(pod.namespace, "-6")).toEqual([{ gateway: "fe80::1", flags: [] }]);
    expect(addressesOn(node, "cni0")).toEqual(["192.0.2.77/32"]);
    expect(pings(pod.namespace, "198.51.100.1")).toBe(true);
    expect(pings(pod.namespace, "2001:db8:1::1")).toBe(true);
    must(call(node, "CHECK", { ...conf, prevResult: result }, pod));
    const second = freshPod("pod2");
    must(call(node, "ADD", conf, second));
    expect(pings(second.namespace, "198.51.100.1")).toBe(true);
    for (const { container } of [pod, second]) must(call(node, "DEL", conf, { container }));
    expect([podLinks(node), reserved(conf)]).toEqual([[], []]);
  });

  withPrograms("a gateway of the other family is refused", () => {
    const conf = bridgeNetwork({ ipam: { ...RANGE, gateway: "fe80::1" } });
    const answer = call(freshNamespace("node"), "ADD", conf, freshPod());
    expect(answer.json).toMatchObject({ code: 7, msg: expect.stringContaining("ipam.gateway") });
  });
});

describe("IPv6 in the pod", () => {
  withPrograms("addresses survive the interface being set down and up", () => {
    const pod = freshPod();
    must(call(freshNamespace("node"), "ADD", bridgeNetwork({ ipam: DUAL }), pod));
    for (const state of ["down", "up"]) ask(pod.namespace, ["ip", "link", "set", "eth0", state]);
    expect(addressesOn(pod.namespace, "eth0")).toEqual(["10.42.0.2/24", "fd00:42::2/64"]);
  });

  withPrograms("::1 comes with the pod's own address where a runtime has switched IPv6 off", () => {
    const node = freshNamespace("node");
    const [six, four] = [freshPod("six"), freshPod("four")];
    for (const { namespace } of [six, four]) {
      for (const scope of ["all", "default"]) {
        ask(namespace, ["sysctl", "-w", `net.ipv6.conf.${scope}.disable_ipv6=1`]);
      }
    }
    must(call(node, "ADD", bridgeNetwork({ ipam: DUAL }), six));
    must(call(node, "ADD", bridgeNetwork({ ipam: RANGE, bridge: "cni1" }), four));
    const loopback = (pod: NetworkNamespace): string => ask(pod, ["ip", "-6", "address", "show", "lo"]);
    expect(loopback(six.namespace)).toContain("::1/128");
    expect(loopback(four.namespace)).toBe("");
  });
});

describe("where /proc/sys is read-only", () => {
  const within = (
    node: NetworkNamespace,
    conf: Configuration,
    command: string,
    pod: Partial<ReturnType<typeof freshPod>> = {},
  ) =>
    run(
      node,
      [
        "unshare",
        "-m",
        "sh",
        "-c",
        `mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys && exec ${pluginDirectory()}/wayout`,
      ],
      JSON.stringify(conf),
      environmentOf(command, pod),
    );

  withMounts("a pod gets its way out, when forwarding is on", () => {
    const { node } = nodeWithOutside();
    ask(node, ["sysctl", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]);
    const pod = freshPod();
    const answer = within(node, bridgeNetwork({ ipam: DUAL }), "ADD", pod);
    expect(answer).toMatchObject({ exitCode: 0, stderr: "" });
    expect(pings(pod.namespace, "198.51.100.1")).toBe(true);
    expect(pings(pod.namespace, "2001:db8:1::1")).toBe(true);
  });

  withMounts("it is refused where the pod would have none", () => {
    const node = freshNamespace("node");
    const pod = freshPod();
    const answer = within(node, bridgeNetwork({ ipam: IPV6 }), "ADD", pod);
    expect(JSON.parse(answer.stdout)).toMatchObject({ code: 107 });
    expect([linkNames(pod.namespace), podLinks(node)]).toEqual([["lo"], []]);
  });

  withMounts(
    "STATUS says that no pod can come, and says nothing where forwarding is on or not wanted",
    () => {
      const node = freshNamespace("node");
      const refusal = (conf: Configuration): object =>
        JSON.parse(within(node, conf, "STATUS").stdout || "{}") as object;
      for (const ipam of [RANGE, IPV6]) {
        const conf = bridgeNetwork({ ipam });
        expect(refusal(conf)).toMatchObject({ code: 50, msg: expect.stringContaining("read-only") });
        // A bridge that served pods, and has none now.
        const pod = freshPod();
        must(call(node, "ADD", conf, pod));
        must(call(node, "DEL", conf, pod));
        ask(node, ["sysctl", "-w", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0"]);
        expect(refusal(conf)).toMatchObject({ code: 50 });
        expect(refusal({ ...conf, isDefaultGateway: false })).toEqual({});
        ask(node, ["sysctl", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]);
        expect(refusal(conf)).toEqual({});
        ask(node, ["sysctl", "-w", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0"]);
        ask(node, ["ip", "link", "delete", "cni0"]);
      }
    },
  );
});

describe("DEL by a path that leads to somebody else by now", () => {
  withReference("another pod keeps its interface, and what is ours is freed", () => {
    const node = freshNamespace("node");
    const conf = bridgeNetwork({ cniVersion: "1.0.0", ipMasq: false });
    for (const type of ["wayout", "bridge"]) {
      const [gone, other] = [freshPod("gone"), freshPod("other")];
      const result = must(call(node, "ADD", { ...conf, type }, gone));
      must(call(node, "ADD", { ...conf, type }, other));
      ask(gone.namespace, ["ip", "link", "delete", "eth0"]);
      const { netns } = other;
      for (const extra of [{}, { prevResult: result }]) {
        must(call(node, "DEL", { ...conf, ...extra }, { container: "gone", netns }));
        expect(linkNames(other.namespace)).toEqual(["lo", "eth0"]);
        expect(reserved(conf)).toHaveLength(1);
      }
      must(call(node, "DEL", conf, other));
      expect([linkNames(other.namespace), reserved(conf)]).toEqual([["lo"], []]);
    }
  });

  withPrograms("the node keeps its own", () => {
    const node = freshNamespace("node");
    const conf = bridgeNetwork();
    const pod = freshPod("gone");
    must(call(node, "ADD", conf, pod));
    ask(node, ["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1"]);
    must(call(node, "DEL", conf, { container: "gone", netns: "/proc/self/ns/net" }));
    expect(linkNames(node)).toContain("eth0");
    expect([linkNames(pod.namespace), podLinks(node), reserved(conf)]).toEqual([["lo"], [], []]);
  });
});

withPrograms("what other plugins of a chain say of their interfaces is handed on", () => {
  const made = {
    name: "net1",
    mac: "02:00:00:00:00:01",
    socketPath: "/run/vhost/1.sock",
    pciID: "0000:03:00.0",
  };
  for (const [cniVersion, kept] of [
    ["1.1.0", made],
    ["1.0.0", made],
    ["0.4.0", { name: made.name, mac: made.mac }],
  ] as const) {
    const prevResult = { cniVersion, interfaces: [made], ips: [] };
    const conf = bridgeNetwork({ cniVersion, prevResult });
    const [first] = must(call(freshNamespace("node"), "ADD", conf, freshPod())).interfaces!;
    expect(first as object).toEqual(kept);
  }
});

describe("rules that the plugin we replace made for each pod", () => {
  const CONF = { cniVersion: "1.0.0", bridge: "cni0", macspoofchk: true, ipam: DUAL };
  const saved = (node: NetworkNamespace): string =>
    ["iptables-save", "ip6tables-save", "iptables-legacy-save"]
      .flatMap((program) => ask(node, [program, "-t", "nat"]).split("\n"))
      .filter((line) => /^(:CNI-|-A)/.test(line))
      .join("\n");

  withReference("go with the pod's DEL, and nobody else's do", () => {
    const node = freshNamespace("node");
    const conf = bridgeNetwork(CONF);
    const [one, two] = [freshPod("one"), freshPod("two")];
    for (const pod of [one, two]) must(call(node, "ADD", { ...conf, type: "bridge" }, pod));
    const rules = saved(node);
    expect(rules).toContain('id: \\"two\\"');
    must(call(node, "DEL", conf, one));
    const left = saved(node).split("\n");
    expect(left.filter((line) => line.startsWith("-A"))).toEqual(
      rules.split("\n").filter((line) => line.startsWith("-A") && line.includes('id: \\"two\\"')),
    );
    // One chain a family.
    expect(left.filter((line) => line.startsWith(":"))).toHaveLength(2);
    expect(ask(node, ["nft", "list", "table", "bridge", "nat"])).not.toContain("one");
    expect(ask(node, ["nft", "list", "table", "bridge", "nat"])).toContain("macspoofchk-two-eth0");
    must(call(node, "DEL", conf, { container: "two" }));
    expect(saved(node)).toBe("");
    expect(ask(node, ["nft", "list", "table", "bridge", "nat"])).not.toContain("macspoofchk");
  });

  withReference("of iptables-legacy, and of the later plugins' table", () => {
    const node = freshNamespace("node");
    const conf = bridgeNetwork({ name: "n" });
    const sha512 = (text: string, digits: number): string =>
      new Bun.CryptoHasher("sha512").update(text).digest("hex").slice(0, digits);
    const chainOf = (pod: string): string => `CNI-${sha512(`n${pod}`, 24)}`;
    for (const pod of ["one", "two"]) {
      const comment = ["-m", "comment", "--comment", `name: "n" id: "${pod}"`];
      const legacy = (...words: string[]): string => ask(node, ["iptables-legacy", "-t", "nat", ...words]);
      legacy("-N", chainOf(pod));
      legacy("-A", chainOf(pod), "-d", "10.42.0.0/24", "-j", "ACCEPT", ...comment);
      legacy(
        "-A",
        "POSTROUTING",
        "-s",
        pod === "one" ? "10.42.0.8" : "10.42.0.9",
        "-j",
        chainOf(pod),
        ...comment,
      );
    }
    const hash = (pod: string): string => `${sha512("n", 16)}-${sha512(`eth0:${pod}`, 16)}`;
    const rule = (pod: string, last: number): string =>
      `ip saddr 10.42.0.${last} ip daddr != 10.42.0.0/24 masquerade comment "${hash(pod)}, net: n, if: eth0, id: ${pod}"`;
    ask(
      node,
      ["nft", "-f", "-"],
      `table inet cni_plugins_masquerade { chain masq_checks { ${rule("one", 8)}; ${rule("two", 9)}; }; }`,
    );
    must(call(node, "DEL", conf, { container: "one" }));
    const left = (): string =>
      `${saved(node)}${ask(node, ["nft", "list", "table", "inet", "cni_plugins_masquerade"])}`;
    expect(left()).not.toContain("one");
    expect(left()).toContain(`-j ${chainOf("two")}`);
    expect(left()).toContain("id: two");
    // What earlier DELs have left goes with a garbage collection.
    must(
      call(node, "GC", { ...conf, "cni.dev/valid-attachments": [{ containerID: "two", ifname: "eth0" }] }),
    );
    expect(left()).toContain("id: two");
    must(call(node, "GC", { ...conf, "cni.dev/valid-attachments": [] }));
    expect(left()).not.toContain("two");
  });
});

describe("type loopback", () => {
  const conf = (type: string, cniVersion = "1.0.0"): Configuration => ({
    cniVersion,
    name: "cni-loopback",
    type,
  });
  /** Ours under the type that runtimes ask for. */
  const loopback = (
    pod: ReturnType<typeof freshPod>,
    command: string,
    extra: object = {},
    cniVersion = "1.0.0",
  ) =>
    rawCall(
      freshNamespace("node"),
      "wayout",
      JSON.stringify({ ...conf("loopback", cniVersion), ...extra }),
      environmentOf(command, { ...pod, interfaceName: "lo" }),
    );

  withReference("answers as the reference plugin", () => {
    for (const cniVersion of ["1.0.0"]) {
      const [ours, theirs] = [freshPod("ours"), freshPod("theirs")];
      for (const { namespace } of [ours, theirs]) ask(namespace, ["ip", "link", "set", "lo", "down"]);
      const answer = must(loopback(ours, "ADD", {}, cniVersion));
      const reference = must(
        call(freshNamespace("node"), "ADD", conf("loopback", cniVersion), { ...theirs, interfaceName: "lo" }),
      );
      const plain = JSON.stringify(answer).replaceAll(ours.netns!, "NS");
      expect(JSON.parse(plain)).toEqual(
        JSON.parse(JSON.stringify(reference).replaceAll(theirs.netns!, "NS")),
      );
      expect(ask(ours.namespace, ["ip", "-br", "link", "show", "lo"])).toContain("LOWER_UP");
    }
  });

  withPrograms(
    "hands on what was reported before, checks, and takes nothing from whom a path leads to by now",
    () => {
      const pod = freshPod();
      const prevResult = { cniVersion: "1.0.0", ips: [{ address: "10.42.0.9/24" }], dns: {} };
      expect(must(loopback(pod, "ADD", { prevResult })).ips).toEqual(prevResult.ips);
      must(loopback(pod, "CHECK", { prevResult }));
      must(loopback(pod, "DEL", { prevResult }));
      must(loopback(pod, "CHECK", { prevResult }));
      ask(pod.namespace, ["ip", "link", "set", "lo", "down"]);
      expect(loopback(pod, "CHECK", { prevResult }).json).toMatchObject({
        code: 110,
        msg: expect.stringContaining("lo is down"),
      });
      must(loopback({ ...pod, netns: "/run/netns/gone" }, "DEL"));
      expect(loopback({ ...pod, netns: "/run/netns/gone" }, "ADD").json?.code).toBe(8);
    },
  );
});
