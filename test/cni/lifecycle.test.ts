/** Attachments from first to last: real traffic, repair, garbage. */
import { describe, expect } from "bun:test";
import { existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { Conntrack } from "../../src/kernel/conntrack/conntrack.ts";
import { FileLock } from "../../src/kernel/file-lock.ts";
import { InetSocket } from "../../src/kernel/inet-socket.ts";
import { Nftables } from "../../src/kernel/nftables/nftables.ts";
import { ask, run, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";
import { nodeWithOutside, pings, podLinks, reserved } from "./node.ts";
import {
  bridgeNetwork,
  call,
  environmentOf,
  freshPod,
  must,
  pluginDirectory,
  pluginProgram,
  REFERENCE_DIRECTORY,
  type Answer,
  type Attachment,
  type CniJson,
  type Configuration,
} from "./plugin.ts";

const withPrograms = testWith(["root", "ip", "nft", "ping", "sysctl"]);

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
});

describe("an address that had an owner before", () => {
  const withConntrack = testWith([
    "root",
    "ip",
    "nft",
    "iptables",
    "ping",
    "conntrack",
    ...(existsSync(REFERENCE_DIRECTORY) ? [] : ["containernetworking-plugins"]),
  ]);

  /** Connections that are tracked and name an address. */
  function tracked(node: NetworkNamespace, address: string): string[] {
    const lines = ask(node, ["conntrack", "-L", "-o", "extended"]).split("\n");
    return lines.filter((line) => line.includes(`=${address} `));
  }

  for (const type of ["wayout", "bridge"]) {
    withConntrack(`its connections are forgotten, and nobody else's: attached by ${type}`, () => {
      const { node, outside } = nodeWithOutside();
      const conf = bridgeNetwork({ cniVersion: "1.0.0" });
      const wish = { ...conf, runtimeConfig: { ips: ["10.42.0.9"] }, args: { cni: { ips: ["10.42.0.9"] } } };
      const [first, other] = [freshPod("first"), freshPod("other")];
      must(call(node, "ADD", { ...wish, type }, first));
      const [others] = must(call(node, "ADD", { ...conf, type }, other)).ips!;
      // As with a published port: here the pod is the one who answers.
      ask(
        node,
        ["nft", "-f", "-"],
        `table ip published { chain prerouting { type nat hook prerouting priority -100
          udp dport 8080 dnat to 10.42.0.9:80
        }
        }`,
      );
      expect(pings(first.namespace, "198.51.100.1") && pings(other.namespace, "198.51.100.1")).toBe(true);
      const packet = `const socket = require("node:dgram").createSocket("udp4");
        socket.send("x", 8080, "203.0.113.5", () => socket.close());`;
      ask(outside, [process.execPath, "-e", packet]);
      expect(tracked(node, "10.42.0.9")).toHaveLength(2);
      must(call(node, "DEL", { ...wish, type }, first));
      must(call(node, "ADD", wish, freshPod("second")));
      expect(tracked(node, "10.42.0.9")).toEqual([]);
      expect(tracked(node, others!.address.split("/")[0]!)).toHaveLength(1);
    });
  }
});

describe("what is noted of addresses in use", () => {
  const notes = (node: NetworkNamespace, conf: Configuration, among = ""): string[] => {
    const directory = `/run/wayout/cni/${node.cookie}/${String(conf["name"])}.used/${among}`;
    return existsSync(directory)
      ? readdirSync(directory)
          .filter((name) => !name.startsWith("."))
          .sort()
      : [];
  };

  withPrograms(
    "is bounded by who is attached; who did not end by a DEL is looked for by the next ADD",
    () => {
      const { node } = nodeWithOutside();
      const conf = bridgeNetwork({ ipam: { type: "host-local", subnet: "10.42.0.0/29" } });
      must(call(node, "ADD", conf, freshPod("stays")));
      for (let round = 0; round < 3; round++) {
        const pod = freshPod(`pod${round}`);
        must(call(node, "ADD", conf, pod));
        expect(notes(node, conf)).toHaveLength(2);
        expect(pings(pod.namespace, "198.51.100.1")).toBe(true);
        must(call(node, "DEL", conf, pod));
        expect(notes(node, conf)).toEqual(["10.42.0.2"]);
        // To look at the table takes longer than all the rest of a DEL: it is noted that somebody should.
        expect(notes(node, conf, ".left")).toContain(`10.42.0.${3 + round}`);
        expect(flowsOf(node, `10.42.0.${3 + round}`)).toBeGreaterThan(0);
      }
      const heir = freshPod("heir");
      must(call(node, "ADD", { ...conf, runtimeConfig: { ips: ["10.42.0.4"] } }, heir));
      // One look was enough for all of them.
      expect([3, 4, 5].map((last) => flowsOf(node, `10.42.0.${last}`))).toEqual([0, 0, 0]);
      expect(notes(node, conf, ".left")).toEqual([]);
      must(call(node, "DEL", conf, heir));
      // It ends without a DEL: the address is given back by GC, its connections are still there.
      const crashed = freshPod("crashed");
      const { ips } = must(call(node, "ADD", conf, crashed));
      const address = ips![0]!.address.split("/")[0]!;
      expect(pings(crashed.namespace, "198.51.100.1")).toBe(true);
      const valid = [{ containerID: "stays", ifname: "eth0" }];
      must(call(node, "GC", { ...conf, "cni.dev/valid-attachments": valid }));
      expect(notes(node, conf)).toEqual(["10.42.0.2", address].sort());
      const next = { ...conf, runtimeConfig: { ips: [address] } };
      must(call(node, "ADD", next, freshPod("next")));
      expect(flowsOf(node, address)).toBe(0);
      must(call(node, "DEL", conf, { container: "next" }));
      must(call(node, "DEL", conf, { container: "stays" }));
      expect([notes(node, conf), notes(node, conf, ".left")]).toEqual([[], []]);
    },
  );

  withPrograms("connections of pods that are gone are forgotten at the latest when 32 have left some", () => {
    const { node } = nodeWithOutside();
    const conf = bridgeNetwork({ ipam: { type: "host-local", subnet: "10.42.0.0/25" } });
    must(call(node, "ADD", conf, freshPod("stays")));
    const [first, last] = [3, 34];
    for (let pod = first; pod <= last; pod++) {
      const attached = freshPod(`pod${pod}`);
      must(call(node, "ADD", conf, attached));
      if (pod === first) expect(pings(attached.namespace, "198.51.100.1")).toBe(true);
      if (pod === last) expect(flowsOf(node, `10.42.0.${first}`)).toBe(1);
      must(call(node, "DEL", conf, attached));
    }
    expect([flowsOf(node, `10.42.0.${first}`), notes(node, conf, ".left")]).toEqual([0, []]);
  });

  withPrograms(
    "DEL works on a read-only /run; ADD says what is the matter, and STATUS says so before",
    () => {
      const node = freshNamespace("node");
      const conf = bridgeNetwork();
      must(call(node, "ADD", conf, freshPod("one")));
      const readOnly = (command: string, pod: Attachment, directory = "/run/wayout"): Answer => {
        const script = `mount --bind ${directory} ${directory} && mount -o remount,ro,bind ${directory} && exec "$0"`;
        const ran = run(
          node,
          ["unshare", "-m", "sh", "-c", script, join(pluginDirectory(), "wayout")],
          JSON.stringify(conf),
          environmentOf(command, pod),
        );
        return { ...ran, json: ran.stdout === "" ? undefined : (JSON.parse(ran.stdout) as CniJson) };
      };
      const refused = readOnly("ADD", freshPod("two"));
      expect(refused.json).toMatchObject({ code: 5, msg: expect.stringContaining("EROFS") });
      expect(reserved(conf)).toEqual(["10.42.0.2"]);
      for (const directory of ["/run/wayout", "/var/lib/cni"]) {
        const status = readOnly("STATUS", { container: "" }, directory);
        expect(status.json).toMatchObject({ code: 50, msg: expect.stringContaining("EROFS") });
      }
      must(call(node, "STATUS", conf));
      must(readOnly("DEL", { container: "one" }));
      expect([podLinks(node), reserved(conf), ask(node, ["nft", "list", "ruleset"])]).toEqual([[], [], ""]);
    },
  );
});

/** Connections that an address began, or in which it is who answers. */
function flowsOf(node: NetworkNamespace, address: string): number {
  using table = Conntrack.open(node);
  return table.entries().filter(({ original, reply }) => [original.source, reply.source].includes(address))
    .length;
}

describe("repair", () => {
  const off = (name: string): string[] => ["sysctl", "-q", `${name}=0`];
  const onPort = (what: string): string[] => {
    const port = "$(ip -br link show type veth | grep -o 'wout[a-z2-7]*')";
    return ["sh", "-c", `ip link set ${port} ${what}`];
  };
  /** What breaks, how, what CHECK says of it and by which code, whether STATUS and the next ADD mend it, each alone. */
  const breaks: readonly (readonly [string, readonly string[], RegExp, string, boolean])[] = [
    [
      "the rules were flushed",
      ["nft", "flush", "ruleset"],
      /table inet wayout is missing/,
      "nat-missing",
      true,
    ],
    ["a rule is missing", ["nft", "flush chain inet wayout postrouting"], /rule/, "nat-missing", true],
    [
      "a subnet is missing in a map",
      ["nft", `delete element inet wayout entered-egress6 { fd00:42::/64 . "cni0" }`],
      /in map inet wayout entered-egress6 is missing/,
      "nat-missing",
      true,
    ],
    [
      "somebody's rule is in our chain",
      ["nft", "insert rule inet wayout postrouting accept"],
      /postrouting/,
      "nat-drift",
      true,
    ],
    ["IPv4 forwarding is off", off("net.ipv4.ip_forward"), /IPv4 forwarding is off/, "forwarding-off", true],
    [
      "IPv6 forwarding is off",
      off("net.ipv6.conf.all.forwarding"),
      /IPv6 forwarding is off/,
      "forwarding-off",
      true,
    ],
    [
      "the bridge alone does not forward",
      off("net.ipv4.conf.cni0.forwarding"),
      /IPv4 forwarding/,
      "forwarding-off-on-interface",
      true,
    ],
    [
      "the bridge lost its gateway addresses",
      ["ip", "address", "flush", "dev", "cni0"],
      /lacks the gateway address 10.42.0.1\/24.* lacks the gateway address fd00:42::1\/64/,
      "bridge-address-missing",
      true,
    ],
    ["the bridge is down", ["ip", "link", "set", "cni0", "down"], /bridge cni0 is down/, "bridge-down", true],
    [
      "the bridge is gone",
      ["ip", "link", "delete", "cni0"],
      /bridge cni0 is missing/,
      "bridge-missing",
      true,
    ],
    [
      "the only port was taken off the bridge",
      onPort("nomaster"),
      /is not a port of cni0/,
      "host-link-not-enslaved",
      true,
    ],
    ["the port is down", onPort("down"), /wout[a-z2-7]* is down/, "host-link-down", false],
  ];
  for (const [name, command, message, code, mended] of breaks) {
    for (const mender of ["ADD", "STATUS"]) {
      if (mender === "STATUS" && !mended) continue;
      withPrograms(
        `CHECK sees it, and the next ${mender} ${mended ? "mends it" : "is not hurt by it"}: ${name}`,
        () => {
          const { node } = nodeWithOutside();
          const ranges = [[{ subnet: "10.42.0.0/24" }], [{ subnet: "fd00:42::/64" }]];
          const conf = bridgeNetwork({ ipam: { type: "host-local", ranges } });
          const pod = freshPod("one");
          const result = must(call(node, "ADD", conf, pod));
          must(call(node, "CHECK", { ...conf, prevResult: result }, pod));
          must(call(node, "STATUS", conf));
          ask(node, command);
          const broken = call(node, "CHECK", { ...conf, prevResult: result }, pod);
          expect(broken.json?.msg).toMatch(message);
          expect(broken.json?.code).toBe(110);
          expect(broken.json?.details).toMatch(new RegExp(`^problems=${code}[,;]`));
          const second = freshPod("two");
          must(call(node, mender, conf, mender === "ADD" ? second : {}));
          must(call(node, "STATUS", conf));
          for (const whole of [...(mended ? [pod] : []), ...(mender === "ADD" ? [second] : [])]) {
            expect(pings(whole.namespace, "198.51.100.1")).toBe(true);
            expect(pings(whole.namespace, "2001:db8:1::1")).toBe(true);
          }
          if (mended) must(call(node, "CHECK", { ...conf, prevResult: result }, pod));
        },
      );
    }
  }

  for (const mender of ["ADD", "STATUS"]) {
    withPrograms(`flows that began while the rules were gone are translated after the next ${mender}`, () => {
      const { node } = nodeWithOutside();
      const conf = bridgeNetwork();
      const pod = freshPod("one");
      must(call(node, "ADD", conf, pod));
      // Somebody else's rule keeps the kernel tracking.
      ask(node, [
        "nft",
        "add table ip keep { chain c { type filter hook forward priority 0; ct state new counter; }; }",
      ]);
      ask(node, ["nft", "delete", "table", "inet", "wayout"]);
      using socket = InetSocket.open(pod.namespace, "udp", 4);
      socket.connect({ address: "198.51.100.1", port: 9 });
      const seenAs = (): string[] => {
        try {
          socket.send(new Uint8Array(1));
        } catch {
          socket.send(new Uint8Array(1));
        }
        using table = Conntrack.open(node);
        return table
          .entries({ original: { destination: "198.51.100.1" } })
          .map(({ reply }) => reply.destination);
      };
      expect(seenAs()).toEqual(["10.42.0.2"]);
      must(call(node, mender, conf, mender === "ADD" ? freshPod("two") : {}));
      expect(seenAs()).toEqual(["203.0.113.5"]);
    });
  }

  const inside: readonly (readonly [string, readonly string[], RegExp, string])[] = [
    [
      "its interface is gone",
      ["ip", "link", "delete", "eth0"],
      /eth0 is missing in the namespace/,
      "pod-interface-missing,host-link-missing",
    ],
    [
      "its address is gone",
      ["ip", "address", "flush", "dev", "eth0"],
      /10.42.0.2\/24 is not on eth0/,
      "pod-no-address,pod-no-route",
    ],
    [
      "its default route is gone",
      ["ip", "route", "delete", "default"],
      /no default route through 10.42.0.1/,
      "pod-no-route",
    ],
    [
      "its interface is down",
      ["ip", "link", "set", "eth0", "down"],
      /eth0 is down in the namespace/,
      "pod-link-down,pod-no-route",
    ],
  ];
  for (const [name, command, message, codes] of inside) {
    withPrograms(`CHECK sees what broke in the pod: ${name}`, () => {
      const node = freshNamespace("node");
      const conf = bridgeNetwork();
      const pod = freshPod();
      const result = must(call(node, "ADD", conf, pod));
      ask(pod.namespace, command);
      const { json } = call(node, "CHECK", { ...conf, prevResult: result }, pod);
      expect(json?.msg).toMatch(message);
      expect(json?.details).toStartWith(`problems=${codes}; `);
    });
  }

  withPrograms("CHECK sees a reservation that is lost", () => {
    const node = freshNamespace("node");
    const conf = bridgeNetwork();
    const pod = freshPod();
    const result = must(call(node, "ADD", conf, pod));
    rmSync(`/var/lib/cni/networks/${String(conf["name"])}/10.42.0.2`);
    // Told with what else is wrong.
    ask(pod.namespace, ["ip", "link", "set", "eth0", "down"]);
    const { json } = call(node, "CHECK", { ...conf, prevResult: result }, pod);
    expect([json?.code, json?.details]).toEqual([
      110,
      expect.stringMatching(/^problems=[a-z,-]*pod-link-down[a-z,-]*reservation-lost;/),
    ]);
    expect(call(node, "CHECK", conf, pod).json?.code).toBe(7);
  });

  withPrograms("STATUS: 50 when no ADD can work: no address left, another subnet's bridge, no bridge", () => {
    const node = freshNamespace("node");
    const tiny = { type: "host-local", subnet: "10.42.0.0/30" };
    const conf = bridgeNetwork({ ipam: tiny });
    must(call(node, "STATUS", conf));
    must(call(node, "ADD", conf, freshPod("one")));
    const full = call(node, "STATUS", conf);
    expect(full.json).toMatchObject({
      code: 50,
      details: expect.stringMatching(/^problems=no-address-left;/),
    });
    expect(call(node, "ADD", conf, freshPod("two")).json?.code).toBe(101);
    const moved = { ...conf, ipam: { type: "host-local", subnet: "10.43.0.0/24" } };
    expect(call(node, "ADD", moved, freshPod("two")).json?.code).toBe(105);
    expect(call(node, "STATUS", moved).json).toMatchObject({
      code: 50,
      details: expect.stringMatching(/^problems=bridge-has-other-subnet/),
    });
    must(call(node, "STATUS", { ...moved, forceAddress: true }));
    must(call(node, "DEL", conf, { container: "one" }));
    // Also when nobody is attached any more: the bridge stays.
    expect(
      call(node, "STATUS", { ...conf, ipam: { type: "host-local", subnet: "10.44.0.0/24" } }).json?.code,
    ).toBe(50);
    ask(node, ["ip", "link", "delete", "cni0"]);
    ask(node, ["ip", "link", "add", "cni0", "type", "veth", "peer", "name", "other"]);
    expect(call(node, "STATUS", conf).json).toMatchObject({ code: 50, details: "problems=not-a-bridge" });
  });

  withPrograms("STATUS puts nothing back where nobody is attached, or where a person took it away", () => {
    const node = freshNamespace("node");
    const conf = bridgeNetwork();
    const other = bridgeNetwork({ bridge: "cni0" });
    must(call(node, "ADD", conf, freshPod("one")));
    // On the same bridge, with somebody else's pod.
    must(call(node, "STATUS", other));
    expect(ask(node, ["nft", "list", "ruleset"])).not.toContain(String(other["name"]));
    for (const what of [["--all"], ["--owner", `cni/${String(conf["name"])}`]]) {
      ask(node, [pluginProgram(), "nat", "remove", ...what]);
      must(call(node, "STATUS", conf));
      expect(ask(node, ["nft", "list", "ruleset"])).toBe("");
      must(call(node, "ADD", conf, freshPod(`next${what.length}`)));
      ask(node, ["nft", "flush", "ruleset"]);
      must(call(node, "STATUS", conf));
      expect(ask(node, ["nft", "list", "ruleset"])).toContain("10.42.0.0/24");
    }
  });

  withPrograms("STATUS does not wait for who holds the network, or the rules", () => {
    const node = freshNamespace("node");
    const conf = bridgeNetwork();
    must(call(node, "ADD", conf, freshPod("one")));
    ask(node, ["nft", "flush", "ruleset"]);
    for (const path of [
      `/run/wayout/cni/${node.cookie}/${String(conf["name"])}.lock`,
      `/run/wayout/locks/nat-${node.cookie}`,
    ]) {
      using _holder = FileLock.try(path)!.sign();
      must(call(node, "STATUS", conf));
      expect(ask(node, ["nft", "list", "ruleset"])).toBe("");
    }
    must(call(node, "STATUS", conf));
    expect(ask(node, ["nft", "list", "ruleset"])).toContain("10.42.0.0/24");
  });

  withPrograms("networks of one name in two namespaces do not wait for each other", () => {
    const [node, other] = [freshNamespace("node"), freshNamespace("node")];
    const conf = bridgeNetwork();
    must(call(node, "ADD", conf, freshPod("one")));
    must(call(other, "ADD", conf, freshPod("two")));
    ask(other, ["nft", "flush", "ruleset"]);
    using _holder = FileLock.try(`/run/wayout/cni/${node.cookie}/${String(conf["name"])}.lock`)!.sign();
    // Mends only when it gets the network's lock.
    must(call(other, "STATUS", conf));
    expect(ask(other, ["nft", "list", "ruleset"])).toContain("10.42.0.0/24");
  });

  withPrograms("in the steady state neither ADD nor DEL, CHECK nor STATUS makes a transaction", () => {
    const node = freshNamespace("node");
    const conf = bridgeNetwork();
    must(call(node, "ADD", conf, freshPod("one")));
    ask(node, ["nft", "add", "table", "ip", "somebody"]);
    using nftables = Nftables.open(node);
    // The kernel counts transactions, whoever makes them.
    const before = nftables.generation();
    for (const pod of ["two", "three", "four"].map((name) => freshPod(name))) {
      const result = must(call(node, "ADD", conf, pod));
      must(call(node, "CHECK", { ...conf, prevResult: result }, pod));
      must(call(node, "STATUS", conf));
      must(call(node, "DEL", conf, pod));
    }
    expect(nftables.generation()).toBe(before);
    must(call(node, "DEL", conf, { container: "one" }));
    expect(nftables.generation()).not.toBe(before);
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
    // What libcni of the first days of GC calls it.
    must(call(node, "GC", { ...conf, "cni.dev/attachments": keep }));
    expect(reserved(conf)).toEqual(["10.42.0.3"]);
    must(call(node, "GC", { ...conf, "cni.dev/valid-attachments": [] }));
    const rules = ask(node, ["nft", "list", "ruleset"]);
    expect(rules).not.toContain(String(conf["name"]));
    expect(rules).toContain(String(other["name"]));
  });
});
