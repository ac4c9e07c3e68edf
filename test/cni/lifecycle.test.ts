/** Attachments from first to last: real traffic, repair, garbage, deaths half-way, three hundred at once. */
import { describe, expect } from "bun:test";
import { existsSync, readdirSync, rmSync, writeFileSync, chmodSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isIp } from "../../src/address/ip.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { ask, askJson, run, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";
import {
  bridgeNetwork,
  call,
  Chain,
  environmentOf,
  freshPod,
  must,
  networkName,
  pluginDirectory,
  rawCall,
  REFERENCE_DIRECTORY,
  type Attachment,
  type Configuration,
} from "./plugin.ts";

const withPrograms = testWith(["root", "ip", "nft", "ping"]);
const withReference = testWith([
  "root",
  "ip",
  "nft",
  "iptables",
  "ping",
  ...(existsSync(REFERENCE_DIRECTORY) ? [] : ["containernetworking-plugins"]),
]);

/** A node with an uplink to an outside that has no way back to the pods. */
function nodeWithOutside(): { readonly node: NetworkNamespace; readonly outside: NetworkNamespace } {
  const node = freshNamespace("node");
  const outside = freshNamespace("out");
  ask(node, ["ip", "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", outside.name!]);
  for (const [place, name, v4, v6] of [
    [node, "up0", "203.0.113.5/24", "2001:db8:1::5/64"],
    [outside, "eth0", "203.0.113.1/24", "2001:db8:1::1/64"],
  ] as const) {
    ask(place, ["ip", "address", "add", v4, "dev", name]);
    ask(place, ["ip", "-6", "address", "add", v6, "dev", name, "nodad"]);
    ask(place, ["ip", "link", "set", name, "up"]);
  }
  ask(outside, ["ip", "address", "add", "198.51.100.1/32", "dev", "lo"]);
  ask(node, ["ip", "route", "add", "default", "via", "203.0.113.1"]);
  return { node, outside };
}

function pings(pod: NetworkNamespace, address: string): boolean {
  return run(pod, ["ping", "-c1", "-W2", address]).exitCode === 0;
}

function links(namespace: NetworkNamespace): { ifname: string; ifalias?: string; address: string }[] {
  return askJson(namespace, ["ip", "-j", "link"]);
}

function podLinks(node: NetworkNamespace): string[] {
  return links(node).flatMap(({ ifname }) => (ifname.startsWith("wout") ? [ifname] : []));
}

function reserved(conf: Configuration): string[] {
  const directory = `/var/lib/cni/networks/${String(conf["name"])}`;
  return existsSync(directory) ? readdirSync(directory).filter(isIp) : [];
}

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

  withPrograms("snat, nonMasqueradeCIDRs, portRange, one family only: as the rules say", () => {
    const { node, outside } = nodeWithOutside();
    ask(node, ["ip", "address", "add", "203.0.113.77/24", "dev", "up0"]);
    ask(outside, ["ip", "route", "add", "10.42.0.0/24", "via", "203.0.113.5"]);
    ask(outside, ["ip", "address", "add", "192.0.2.1/32", "dev", "lo"]);
    const conf = bridgeNetwork({
      ipMasq: false,
      masquerade: { v4: true },
      snat: "203.0.113.77",
      nonMasqueradeCIDRs: ["192.0.2.0/24"],
      portRange: "40000-40999",
      randomFully: false,
    });
    const pod = freshPod();
    must(call(node, "ADD", conf, pod));
    ask(outside, [
      "nft",
      "add table ip t; add chain ip t i { type filter hook input priority 0; }; add rule ip t i ip saddr 203.0.113.77 ip daddr 198.51.100.1 counter; add rule ip t i ip saddr 10.42.0.2 ip daddr 192.0.2.1 counter",
    ]);
    expect(pings(pod.namespace, "198.51.100.1")).toBe(true);
    expect(pings(pod.namespace, "192.0.2.1")).toBe(true);
    expect(ask(outside, ["nft", "list", "table", "ip", "t"]).match(/counter packets 1 /g)).toHaveLength(2);
    const rules = ask(node, ["nft", "list", "table", "inet", "wayout"]);
    expect(rules).toContain("203.0.113.77");
    expect(rules).toContain("40000-40999");
    must(call(node, "DEL", conf, pod));
  });

  withPrograms("MTU, hairpin, isolation, promiscuity and no duplicate address detection, as ip says", () => {
    const node = freshNamespace("node");
    const conf = bridgeNetwork({ mtu: 1400, hairpinMode: true, portIsolation: true });
    const pod = freshPod();
    must(call(node, "ADD", conf, pod));
    const [port] = podLinks(node);
    const detail = ask(node, ["ip", "-d", "link", "show", port!]);
    expect(detail).toContain("mtu 1400");
    expect(detail).toContain("hairpin on");
    expect(detail).toContain("isolated on");
    expect(detail).toContain(`alias cni/${String(conf["name"])} pod1 eth0`);
    const other = bridgeNetwork({
      bridge: "cni1",
      promiscMode: true,
      ipam: { type: "host-local", subnet: "10.43.0.0/24" },
    });
    must(call(node, "ADD", other, freshPod()));
    expect(ask(node, ["ip", "link", "show", "cni1"])).toContain("PROMISC");
  });

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

describe("refusals leave everything as it was", () => {
  withPrograms(
    "a taken interface name, a second ADD, a bridge that is none, another subnet on the bridge",
    () => {
      const node = freshNamespace("node");
      const conf = bridgeNetwork();
      const pod = freshPod();
      ask(pod.namespace, ["ip", "link", "add", "eth0", "type", "bridge"]);
      expect(call(node, "ADD", conf, pod).json?.code).toBe(104);
      expect(links(node).map(({ ifname }) => ifname)).toEqual(["lo"]);
      expect(reserved(conf)).toEqual([]);
      ask(pod.namespace, ["ip", "link", "delete", "eth0"]);

      ask(node, ["ip", "link", "add", "cni0", "type", "veth", "peer", "name", "other"]);
      expect(call(node, "ADD", conf, pod).json?.code).toBe(105);
      expect(reserved(conf)).toEqual([]);
      ask(node, ["ip", "link", "delete", "cni0"]);

      must(call(node, "ADD", conf, pod));
      const before = ask(pod.namespace, ["ip", "-br", "address"]);
      expect(call(node, "ADD", conf, pod).json?.code).toBe(102);
      expect(ask(pod.namespace, ["ip", "-br", "address"])).toBe(before);

      const other = bridgeNetwork({ ipam: { type: "host-local", subnet: "10.99.0.0/24" } });
      const refused = call(node, "ADD", other, freshPod("two"));
      expect(refused.json?.code).toBe(105);
      expect(reserved(other)).toEqual([]);
      must(call(node, "ADD", { ...other, forceAddress: true }, freshPod("two")));
    },
  );

  withPrograms("state that cannot be written", () => {
    const node = freshNamespace("node");
    const directory = mkdtempSync(join(tmpdir(), "wayout-state-"));
    try {
      const conf = bridgeNetwork({
        ipam: { type: "host-local", subnet: "10.42.0.0/24", dataDir: join(directory, "file") },
      });
      writeFileSync(join(directory, "file"), "");
      expect(call(node, "ADD", conf, freshPod()).json?.code).toBe(5);
      expect(links(node).map(({ ifname }) => ifname)).toEqual(["lo"]);
    } finally {
      rmSync(directory, { recursive: true });
    }
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

describe("delegated address management", () => {
  withReference("static, and its failure", () => {
    const { node } = nodeWithOutside();
    const ipam = { type: "static", addresses: [{ address: "10.42.0.9/24", gateway: "10.42.0.1" }] };
    const conf = bridgeNetwork({ cniVersion: "1.0.0", ipam });
    const pod = freshPod("a");
    const second = freshPod("b");
    const result = must(call(node, "ADD", conf, pod));
    expect(pings(pod.namespace, "198.51.100.1")).toBe(true);
    const elsewhere = {
      ...conf,
      bridge: "cni1",
      ipam: { type: "static", addresses: [{ address: "10.50.0.9/24", gateway: "10.50.0.1" }] },
    };
    must(call(node, "ADD", elsewhere, second));
    expect(pings(pod.namespace, "198.51.100.1")).toBe(true);
    expect(pings(second.namespace, "198.51.100.1")).toBe(true);
    must(call(node, "CHECK", { ...conf, prevResult: result }, pod));
    must(call(node, "DEL", conf, pod));
    expect(pings(second.namespace, "198.51.100.1")).toBe(true);
    must(call(node, "DEL", elsewhere, second));
    expect(ask(node, ["nft", "list", "ruleset"])).toBe("");
    const missing = call(node, "ADD", { ...conf, ipam: { type: "nobody" } }, freshPod("c"));
    expect(missing.json?.msg).toContain("nobody");
  });

  withPrograms("a plugin that fails in ADD is asked to DEL, and its own code is handed on", () => {
    const node = freshNamespace("node");
    const directory = mkdtempSync(join(tmpdir(), "wayout-ipam-"));
    try {
      const log = join(directory, "log");
      const script = `#!/bin/sh\ncat > ${log}.in\necho $CNI_COMMAND >> ${log}\n[ $CNI_COMMAND = ADD ] || exit 0\necho '{"cniVersion":"1.0.0","code":42,"msg":"no lease"}'; exit 1\n`;
      writeFileSync(join(directory, "lease"), script);
      chmodSync(join(directory, "lease"), 0o755);
      const conf = bridgeNetwork({ ipam: { type: "lease" } });
      const environment = { ...environmentOf("ADD", freshPod()), CNI_PATH: directory };
      const answer = rawCall(node, "wayout", JSON.stringify(conf), environment);
      expect(answer.json).toMatchObject({ code: 42 });
      expect(answer.json?.msg).toContain("no lease");
      expect(ask(undefined, ["cat", log])).toBe("ADD\nDEL\n");
      expect(JSON.parse(ask(undefined, ["cat", `${log}.in`]))).toEqual(conf);
      expect(links(node).map(({ ifname }) => ifname)).toEqual(["lo"]);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

describe("chains with the reference plugins", () => {
  const shaping = Bun.which("tc") === null ? ["tc"] : [];
  testWith([
    "root",
    "ip",
    "nft",
    "iptables",
    "ping",
    "curl",
    ...shaping,
    ...(existsSync(REFERENCE_DIRECTORY) ? [] : ["containernetworking-plugins"]),
  ])("portmap, firewall, tuning and bandwidth work on our result; DEL leaves nothing of the pod", () => {
    const { node, outside } = nodeWithOutside();
    const base = bridgeNetwork();
    const chain = new Chain(node, networkName(), [
      base,
      { type: "portmap", capabilities: { portMappings: true }, snat: true },
      { type: "firewall", backend: "iptables" },
      { type: "tuning", sysctl: { "net.core.somaxconn": "512" }, mtu: 1300 },
      { type: "bandwidth", capabilities: { bandwidth: true } },
    ]);
    const runtime = {
      portMappings: [{ hostPort: 8080, containerPort: 80, protocol: "tcp" }],
      bandwidth: {
        ingressRate: 100_000_000,
        ingressBurst: 1_000_000_000,
        egressRate: 100_000_000,
        egressBurst: 1_000_000_000,
      },
    };
    const pod = freshPod();
    const result = chain.add(pod, runtime);
    expect(result.interfaces?.some(({ name }) => name === "eth0")).toBe(true);
    expect(ask(pod.namespace, ["ip", "link", "show", "eth0"])).toContain("mtu 1300");
    const server = pod.namespace.run(() =>
      Bun.spawn(["busybox", "nc", "-l", "-p", "80", "-e", "echo", "hello"], {
        stdout: "ignore",
        stderr: "ignore",
      }),
    );
    expect(pings(pod.namespace, "198.51.100.1")).toBe(true);
    const fetched = run(outside, [
      "sh",
      "-c",
      "for i in 1 2 3 4 5 6 7 8 9 10; do busybox nc -w 2 203.0.113.5 8080 </dev/null && exit 0; sleep 0.1; done; exit 1",
    ]);
    expect(fetched.stdout).toContain("hello");
    server.kill();
    // The CHECK of portmap 1.1.1 looks for the IPv4 pod's rules in ip6tables, whichever plugin made the pod.
    chain.check(pod, result, runtime, ["portmap"]);
    chain.del(pod, result, runtime);
    chain.del(pod, undefined, runtime);
    expect(podLinks(node)).toEqual([]);
    expect(ask(node, ["iptables", "-t", "nat", "-S"])).not.toContain("10.42.0.2");
    expect(ask(node, ["iptables", "-S"])).not.toContain("10.42.0.2");
    expect(ask(node, ["nft", "list", "tables"])).not.toContain("wayout");
  });
});

describe("many at once, and deaths", () => {
  withPrograms(
    "300 pairs of ADD and DEL on a network whose bridge does not exist: all succeed, nothing is left",
    async () => {
      const node = freshNamespace("node");
      const conf = bridgeNetwork({ ipam: { type: "host-local", subnet: "10.42.0.0/16" } });
      const input = JSON.stringify(conf);
      const program = join(pluginDirectory(), "wayout");
      const failures: string[] = [];
      const given: string[] = [];
      const callAsync = async (command: string, container: string, netns: string): Promise<string> => {
        const child = node.run(() =>
          Bun.spawn([program], {
            stdin: Buffer.from(input),
            stdout: "pipe",
            stderr: "pipe",
            env: environmentOf(command, { container, netns }),
          }),
        );
        const [output, code] = [await new Response(child.stdout).text(), await child.exited];
        if (code !== 0) failures.push(`${command} ${container}: ${output}`);
        return output;
      };
      const pods = Array.from({ length: 30 }, (_, index) => freshPod(`lane${index}`));
      await Promise.all(
        pods.map(async (pod, lane) => {
          for (let turn = 0; turn < 10; turn++) {
            const container = `c${lane}-${turn}`;
            const result = await callAsync("ADD", container, pod.netns!);
            const address = /"address": "([^"]+)"/.exec(result)?.[1];
            if (address !== undefined) {
              expect(given).not.toContain(address);
              given.push(address);
            }
            await callAsync("DEL", container, pod.netns!);
            given.splice(given.indexOf(address!), 1);
          }
        }),
      );
      expect(failures).toEqual([]);
      expect(podLinks(node)).toEqual([]);
      expect(reserved(conf)).toEqual([]);
      expect(ask(node, ["nft", "list", "ruleset"])).toBe("");
    },
    240_000,
  );

  /** Starts a call, kills it after a while, waits for its end. True when it had ended well by then. */
  async function killedAfter(
    delayMs: number,
    node: NetworkNamespace,
    command: string,
    conf: Configuration,
    pod: Attachment,
  ): Promise<boolean> {
    const child = node.run(() =>
      Bun.spawn([join(pluginDirectory(), "wayout")], {
        stdin: Buffer.from(JSON.stringify(conf)),
        stdout: "ignore",
        stderr: "ignore",
        env: environmentOf(command, pod),
      }),
    );
    const timer = setTimeout(() => child.kill("SIGKILL"), delayMs);
    const code = await child.exited;
    clearTimeout(timer);
    return code === 0;
  }

  withPrograms(
    "killed at any moment of ADD: DEL cleans up, and the address can be given again",
    async () => {
      const node = freshNamespace("node");
      const conf = bridgeNetwork({
        macspoofchk: true,
        ipam: { type: "host-local", subnet: "10.42.0.0/29" },
      });
      const pod = freshPod("victim");
      let finished = 0;
      for (let delayMs = 1; finished < 3 && delayMs < 400; delayMs += 1 + delayMs / 50) {
        if (await killedAfter(delayMs, node, "ADD", conf, pod)) finished++;
        must(call(node, "DEL", conf, pod));
        expect(podLinks(node)).toEqual([]);
        expect(reserved(conf)).toEqual([]);
        expect(ask(node, ["nft", "list", "ruleset"])).toBe("");
        expect(ask(pod.namespace, ["ip", "-br", "link"])).not.toContain("eth0");
      }
      expect(finished).toBe(3);
      must(call(node, "ADD", conf, pod));
    },
    120_000,
  );

  withPrograms(
    "killed at any moment of DEL: the next DEL finishes it, or GC does",
    async () => {
      const node = freshNamespace("node");
      const conf = bridgeNetwork();
      const pod = freshPod("victim");
      for (let delayMs = 1; delayMs < 60; delayMs += 3) {
        must(call(node, "ADD", conf, pod));
        await killedAfter(delayMs, node, "DEL", conf, pod);
        if (delayMs % 2 === 1) must(call(node, "DEL", conf, pod));
        else must(call(node, "GC", { ...conf, "cni.dev/valid-attachments": [] }));
        expect(podLinks(node)).toEqual([]);
        expect(reserved(conf)).toEqual([]);
        expect(ask(node, ["nft", "list", "ruleset"])).toBe("");
      }
    },
    120_000,
  );
});
