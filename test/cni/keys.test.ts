/** Every key of a configuration, and what independent witnesses see of it. VLAN keys: vlan.test.ts; NAT: translation.test.ts. */
import { describe, expect } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isIp } from "../../src/address/ip.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, askJson, run, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";
import { addressesOn, linkNames, links, pings, podLinks, reserved } from "./node.ts";
import { bridgeNetwork, call, freshPod, must, type CniJson, type Configuration } from "./plugin.ts";

const PROGRAMS = ["root", "ip", "nft", "ping", "sysctl", "bridge"];
const withPrograms = testWith(PROGRAMS);

const RANGE = { type: "host-local", subnet: "10.42.0.0/24" };
const DUAL = { type: "host-local", ranges: [[{ subnet: "10.42.0.0/24" }], [{ subnet: "fd00:42::/64" }]] };
const LAYER_2 = { ipam: {}, isDefaultGateway: false, ipMasq: false };

function sysctl(namespace: NetworkNamespace, name: string): string {
  return ask(namespace, ["sysctl", "-n", name]).trim();
}

/** Destination and gateway of a pod's global routes. */
function routes(pod: NetworkNamespace): string[] {
  return ["-4", "-6"]
    .flatMap((family) =>
      askJson<{ dst: string; gateway?: string }[]>(pod, ["ip", family, "-j", "route"]).map(
        ({ dst, gateway }) => `${dst}${gateway === undefined ? "" : ` via ${gateway}`}`,
      ),
    )
    .filter((route) => !route.startsWith("fe80") && !route.startsWith("ff00"));
}

function port(node: NetworkNamespace, result: CniJson): string {
  return ask(node, ["ip", "-d", "link", "show", result.interfaces![1]!.name]);
}

describe("the bridge and its gateway", () => {
  withPrograms("bridge: cni0 unless it is named", () => {
    const node = freshNamespace("node");
    must(call(node, "ADD", bridgeNetwork({ bridge: undefined, ...LAYER_2 }), freshPod()));
    must(call(node, "ADD", bridgeNetwork({ bridge: "mine7", ...LAYER_2 }), freshPod()));
    const bridges = ask(node, ["ip", "-br", "link", "show", "type", "bridge"]).trim().split("\n");
    expect(bridges.map((line) => line.split(" ")[0])).toEqual(["cni0", "mine7"]);
    expect(links(node).filter(({ master }) => master === "mine7")).toHaveLength(1);
  });

  withPrograms(
    "isGateway: the bridge's address and forwarding, no default route; isDefaultGateway: with it",
    () => {
      const cases = [
        [{ isDefaultGateway: false }, [], "0", false],
        [{ isDefaultGateway: false, isGateway: true }, ["10.42.0.1/24", "fd00:42::1/64"], "1", false],
        [{ isDefaultGateway: true }, ["10.42.0.1/24", "fd00:42::1/64"], "1", true],
      ] as const;
      for (const [extra, addresses, forwarding, defaults] of cases) {
        const node = freshNamespace("node");
        const pod = freshPod();
        must(call(node, "ADD", bridgeNetwork({ ipam: DUAL, ipMasq: false, ...extra }), pod));
        expect(addressesOn(node, "cni0")).toEqual([...addresses]);
        expect(sysctl(node, "net.ipv4.ip_forward")).toBe(forwarding);
        expect(sysctl(node, "net.ipv6.conf.all.forwarding")).toBe(forwarding);
        expect(sysctl(node, "net.ipv6.conf.cni0.accept_ra")).toBe("0");
        expect(routes(pod.namespace)).toEqual([
          ...(defaults ? ["default via 10.42.0.1"] : []),
          "10.42.0.0/24",
          "fd00:42::/64",
          ...(defaults ? ["default via fd00:42::1"] : []),
        ]);
      }
    },
  );

  withPrograms("forceAddress: the other network's address gives way", () => {
    const node = freshNamespace("node");
    must(call(node, "ADD", bridgeNetwork(), freshPod()));
    const other = { type: "host-local", subnet: "10.99.0.0/24" };
    must(call(node, "ADD", bridgeNetwork({ ipam: other, forceAddress: true }), freshPod("two")));
    expect(addressesOn(node, "cni0")).toEqual(["10.99.0.1/24"]);
  });

  withPrograms("mtu: the bridge's, and both ends of the link's", () => {
    const node = freshNamespace("node");
    const pod = freshPod();
    const result = must(call(node, "ADD", bridgeNetwork({ mtu: 1400 }), pod));
    const mtuOf = (namespace: NetworkNamespace, name: string): number =>
      links(namespace).find(({ ifname }) => ifname === name)!.mtu;
    expect(mtuOf(node, "cni0")).toBe(1400);
    expect(mtuOf(node, result.interfaces![1]!.name)).toBe(1400);
    expect(mtuOf(pod.namespace, "eth0")).toBe(1400);
    expect(result.interfaces!.map(({ mtu }) => mtu)).toEqual([1400, 1400, 1400]);
  });

  withPrograms("promiscMode", () => {
    const node = freshNamespace("node");
    const flags = (): readonly string[] => links(node).find(({ ifname }) => ifname === "cni0")!.flags;
    must(call(node, "ADD", bridgeNetwork(), freshPod()));
    expect(flags()).not.toContain("PROMISC");
    const conf = bridgeNetwork({ promiscMode: true, ipam: {} });
    const two = freshPod("two");
    const prevResult = must(call(node, "ADD", conf, two));
    expect(flags()).toContain("PROMISC");
    must(call(node, "CHECK", { ...conf, prevResult }, two));
    ask(node, ["ip", "link", "set", "cni0", "promisc", "off"]);
    expect(call(node, "CHECK", { ...conf, prevResult }, two).json?.details).toStartWith(
      "problems=bridge-not-promiscuous;",
    );
    must(call(node, "STATUS", conf));
    expect(flags()).toContain("PROMISC");
  });

  withPrograms(
    "a port of a bridge that was deleted gets its settings back with the bridge; CHECK misses them",
    () => {
      const node = freshNamespace("node");
      const pod = freshPod();
      const conf = bridgeNetwork({ hairpinMode: true, portIsolation: true });
      const prevResult = must(call(node, "ADD", conf, pod));
      const port = prevResult.interfaces![1]!.name;
      const check = () => call(node, "CHECK", { ...conf, prevResult }, pod);
      for (const key of ["hairpin", "isolated"]) {
        ask(node, ["bridge", "link", "set", "dev", port, key, "off"]);
        expect(check().json?.details).toStartWith("problems=host-link-settings;");
        ask(node, ["bridge", "link", "set", "dev", port, key, "on"]);
        must(check());
      }
      ask(node, ["ip", "link", "delete", "cni0"]);
      must(call(node, "STATUS", conf));
      must(check());
    },
  );
});

describe("the pod's interface", () => {
  withPrograms("hairpinMode: a pod reaches itself through the node", () => {
    for (const hairpinMode of [true, false]) {
      const node = freshNamespace("node");
      const pod = freshPod();
      const result = must(call(node, "ADD", bridgeNetwork({ hairpinMode }), pod));
      expect(port(node, result)).toContain(`hairpin ${hairpinMode ? "on" : "off"}`);
      // As with a published port: what the pod sends to 10.42.0.77 comes back to itself.
      const mac = result.interfaces![2]!.mac!;
      ask(pod.namespace, ["ip", "neighbour", "replace", "10.42.0.77", "lladdr", mac, "dev", "eth0"]);
      ask(
        pod.namespace,
        ["nft", "-f", "-"],
        `table netdev t {
          chain c {
            type filter hook ingress device eth0 priority 0
            ether saddr ${mac} icmp type echo-request counter
          }
        }`,
      );
      run(pod.namespace, ["ping", "-c1", "-W1", "10.42.0.77"]);
      expect(ask(pod.namespace, ["nft", "list", "table", "netdev", "t"])).toContain(
        `counter packets ${hairpinMode ? 1 : 0} `,
      );
    }
  });

  withPrograms("portIsolation: two pods do not reach each other, both reach the gateway", () => {
    for (const portIsolation of [true, false]) {
      const node = freshNamespace("node");
      const conf = bridgeNetwork({ portIsolation });
      const [one, two] = [freshPod("one"), freshPod("two")];
      const result = must(call(node, "ADD", conf, one));
      must(call(node, "ADD", conf, two));
      expect(port(node, result)).toContain(`isolated ${portIsolation ? "on" : "off"}`);
      expect(pings(one.namespace, "10.42.0.3")).toBe(!portIsolation);
      expect(pings(one.namespace, "10.42.0.1") && pings(two.namespace, "10.42.0.1")).toBe(true);
    }
  });

  withPrograms("enabledad: an IPv6 address that somebody has is refused; without it, nobody asks", () => {
    const node = freshNamespace("node");
    const ipam = { type: "host-local", subnet: "fd00:42::/64" };
    const first = freshPod("one");
    must(call(node, "ADD", bridgeNetwork({ ipam }), first));
    expect(sysctl(first.namespace, "net.ipv6.conf.eth0.accept_dad")).toBe("0");
    // Two networks that know nothing of each other, on one bridge.
    const twin = freshPod("twin");
    // Also where new interfaces do not ask by themselves.
    ask(twin.namespace, ["sysctl", "-q", "net.ipv6.conf.default.accept_dad=0"]);
    const asking = bridgeNetwork({ ipam, enabledad: true });
    const refused = call(node, "ADD", asking, twin);
    expect(refused.json).toMatchObject({ code: 103, msg: expect.stringContaining("fd00:42::2") });
    expect(linkNames(twin.namespace)).toEqual(["lo"]);
    expect(reserved(asking)).toEqual([]);
    const other = { ...ipam, rangeStart: "fd00:42::99" };
    const added = must(call(node, "ADD", bridgeNetwork({ ipam: other, enabledad: true }), twin));
    expect(sysctl(twin.namespace, "net.ipv6.conf.eth0.accept_dad")).not.toBe("0");
    expect(added.ips![0]!.address).toBe("fd00:42::99/64");
    const said = ask(twin.namespace, ["ip", "-6", "address", "show", "dev", "eth0", "scope", "global"]);
    expect(said).not.toMatch(/tentative|dadfailed/);
    // Nobody asked, and so two have it.
    must(call(node, "ADD", bridgeNetwork({ ipam }), freshPod("careless")));
  });

  withPrograms(
    "enabledad decides about a pod without an IPv6 address of its own, too: its link has one",
    () => {
      const node = freshNamespace("node");
      for (const [enabledad, value] of [
        [false, "0"],
        [true, "1"],
      ] as const) {
        const pod = freshPod(value);
        must(call(node, "ADD", bridgeNetwork({ enabledad }), pod));
        expect(sysctl(pod.namespace, "net.ipv6.conf.eth0.accept_dad")).toBe(value);
      }
    },
  );

  withPrograms("disableContainerInterface: there, on the bridge, and down", () => {
    const node = freshNamespace("node");
    const pod = freshPod();
    const conf = bridgeNetwork({ ...LAYER_2, disableContainerInterface: true });
    const result = must(call(node, "ADD", conf, pod));
    const inside = links(pod.namespace).find(({ ifname }) => ifname === "eth0")!;
    expect(inside.flags).not.toContain("UP");
    expect(inside.address).toBe(result.interfaces![2]!.mac!);
    expect(links(node).find(({ master }) => master === "cni0")!.ifname).toBe(result.interfaces![1]!.name);
    must(call(node, "CHECK", { ...conf, prevResult: result }, pod));
    must(call(node, "DEL", conf, pod));
    expect(linkNames(pod.namespace)).toEqual(["lo"]);
    // Without it the interface is up, and CHECK minds when it is not.
    const plain = bridgeNetwork(LAYER_2);
    const up = must(call(node, "ADD", plain, pod));
    must(call(node, "CHECK", { ...plain, prevResult: up }, pod));
    ask(pod.namespace, ["ip", "link", "set", "eth0", "down"]);
    expect(call(node, "CHECK", { ...plain, prevResult: up }, pod).json?.code).toBe(110);
  });

  withPrograms(
    "a MAC: runtimeConfig before args before CNI_ARGS; a neighbour who knew another one learns it",
    () => {
      const node = freshNamespace("node");
      const watcher = freshPod("watcher");
      must(call(node, "ADD", bridgeNetwork(), watcher));
      const places: readonly (readonly [string, Configuration])[] = [
        ["02:00:00:00:00:01", {}],
        ["02:00:00:00:00:02", { args: { cni: { mac: "02:00:00:00:00:02" } } }],
        [
          "02:00:00:00:00:03",
          { args: { cni: { mac: "02:00:00:00:00:02" } }, runtimeConfig: { mac: "02-00-00-00-00-03" } },
        ],
      ];
      const ipam = { ...RANGE, rangeStart: "10.42.0.9", rangeEnd: "10.42.0.9" };
      for (const [mac, extra] of places) {
        const conf = bridgeNetwork({ ipam, ...extra });
        const pod = { ...freshPod("one"), args: "MAC=02:00:00:00:00:01" };
        const result = must(call(node, "ADD", conf, pod));
        expect(result.interfaces![2]!.mac).toBe(mac);
        expect(links(pod.namespace).find(({ ifname }) => ifname === "eth0")!.address).toBe(mac);
        // The first time it asks; later it is told, before it has sent anything.
        if (mac.endsWith("01")) expect(pings(watcher.namespace, "10.42.0.9")).toBe(true);
        expect(ask(watcher.namespace, ["ip", "neighbour", "show", "10.42.0.9"])).toContain(mac);
        must(call(node, "DEL", conf, pod));
      }
    },
  );
});

describe("host-local's keys", () => {
  withPrograms("rangeStart, rangeEnd, gateway, and round robin after what was given last", () => {
    const node = freshNamespace("node");
    const ipam = { ...RANGE, rangeStart: "10.42.0.50", rangeEnd: "10.42.0.52", gateway: "10.42.0.254" };
    const conf = bridgeNetwork({ ipam });
    const given = ["a", "b", "c"].map((name) => must(call(node, "ADD", conf, freshPod(name))).ips![0]!);
    expect(given.map(({ address }) => address)).toEqual(["10.42.0.50/24", "10.42.0.51/24", "10.42.0.52/24"]);
    expect(given[0]!.gateway).toBe("10.42.0.254");
    expect(addressesOn(node, "cni0")).toEqual(["10.42.0.254/24"]);
    for (const container of ["a", "b"]) must(call(node, "DEL", conf, { container }));
    expect(must(call(node, "ADD", conf, freshPod("d"))).ips![0]!.address).toBe("10.42.0.50/24");
    must(call(node, "DEL", conf, { container: "d" }));
    expect(must(call(node, "ADD", conf, freshPod("e"))).ips![0]!.address).toBe("10.42.0.51/24");
  });

  withPrograms("ranges: an address of each set, of a set's second range when the first is full", () => {
    const node = freshNamespace("node");
    const full = { subnet: "10.42.0.0/24", rangeStart: "10.42.0.9", rangeEnd: "10.42.0.9" };
    const more = { subnet: "10.42.0.0/24", rangeStart: "10.42.0.100" };
    const ranges = [[full, more], [{ subnet: "fd00:42::/64" }]];
    const conf = bridgeNetwork({ ipam: { type: "host-local", ranges } });
    const pods = [freshPod("a"), freshPod("b")];
    for (const pod of pods) must(call(node, "ADD", conf, pod));
    expect(pods.map(({ namespace }) => addressesOn(namespace, "eth0"))).toEqual([
      ["10.42.0.9/24", "fd00:42::2/64"],
      ["10.42.0.100/24", "fd00:42::3/64"],
    ]);
    for (const pod of pods) expect(pings(pod.namespace, "fd00:42::1")).toBe(true);
  });

  withPrograms("routes: through the network's gateway, through one of their own, with their settings", () => {
    const node = freshNamespace("node");
    const pod = freshPod();
    const listed = [
      { dst: "198.51.100.0/24" },
      { dst: "203.0.113.0/24", gw: "10.42.0.9" },
      { dst: "192.0.2.0/24", mtu: 1300, advmss: 1200, priority: 77, table: 100 },
      { dst: "192.0.2.7/32", scope: 253 },
    ];
    must(call(node, "ADD", bridgeNetwork({ ipam: { ...RANGE, routes: listed } }), pod));
    expect(routes(pod.namespace)).toEqual(
      expect.arrayContaining(["198.51.100.0/24 via 10.42.0.1", "203.0.113.0/24 via 10.42.0.9", "192.0.2.7"]),
    );
    expect(ask(pod.namespace, ["ip", "route", "show", "table", "100"])).toMatch(
      /^192\.0\.2\.0\/24 via 10\.42\.0\.1 dev eth0 metric 77 mtu 1300 advmss 1200/,
    );
    expect(ask(pod.namespace, ["ip", "route", "show", "192.0.2.7"])).toContain("scope link");
  });

  withPrograms("dataDir and resolvConf", () => {
    const directory = mkdtempSync(join(tmpdir(), "wayout-keys-"));
    afterThisTest(() => rmSync(directory, { recursive: true }));
    const resolvConf = join(directory, "resolv.conf");
    writeFileSync(resolvConf, "nameserver 192.0.2.53\nsearch a.example\noptions ndots:3\n");
    const conf = bridgeNetwork({ ipam: { ...RANGE, dataDir: join(directory, "data"), resolvConf } });
    const node = freshNamespace("node");
    const result = must(call(node, "ADD", conf, freshPod()));
    expect(readdirSync(join(directory, "data", String(conf["name"]))).filter(isIp)).toEqual(["10.42.0.2"]);
    expect(result.dns).toEqual({
      nameservers: ["192.0.2.53"],
      search: ["a.example"],
      options: ["ndots:3"],
    });
    // The network's own words count more.
    const own = { ...conf, dns: { nameservers: ["192.0.2.1"] } };
    expect(must(call(node, "ADD", own, freshPod("two"))).dns).toEqual({ nameservers: ["192.0.2.1"] });
  });

  withPrograms("ipRanges and ips of the runtime, ips of args, IP of CNI_ARGS", () => {
    const node = freshNamespace("node");
    const given = (extra: Configuration, args?: string): string[] => {
      const pod = { ...freshPod("one"), ...(args === undefined ? {} : { args }) };
      const conf = bridgeNetwork({ forceAddress: true, ...extra });
      must(call(node, "ADD", conf, pod));
      const found = addressesOn(pod.namespace, "eth0");
      must(call(node, "DEL", conf, pod));
      return found;
    };
    const ipRanges = [[{ subnet: "10.44.0.0/24" }], [{ subnet: "fd00:44::/64" }]];
    expect(given({ runtimeConfig: { ipRanges }, ipam: { type: "host-local" } })).toEqual([
      "10.44.0.2/24",
      "fd00:44::2/64",
    ]);
    const ips = ["10.42.0.77/24", "fd00:42::77"];
    expect(given({ runtimeConfig: { ips }, ipam: DUAL })).toEqual(["10.42.0.77/24", "fd00:42::77/64"]);
    expect(given({ args: { cni: { ips: ["10.42.0.78"] } } })).toEqual(["10.42.0.78/24"]);
    expect(given({}, "IP=10.42.0.79")).toEqual(["10.42.0.79/24"]);
  });
});

withPrograms("macspoofchk false: nobody is checked, and the pod's port carries its name", () => {
  const node = freshNamespace("node");
  const conf = bridgeNetwork({ ipMasq: false });
  must(call(node, "ADD", conf, freshPod()));
  expect(ask(node, ["nft", "list", "ruleset"])).toBe("");
  const [name] = podLinks(node);
  expect(links(node).find(({ ifname }) => ifname === name)!.ifalias).toBe(
    `cni/${String(conf["name"])} pod1 eth0`,
  );
});
