/** Other plugins: asked for addresses by ours, and in a chain with it. */
import { describe, expect } from "bun:test";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, run, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";
import { addressesOn, linkNames, nodeWithOutside, pings, podLinks, stateOf } from "./node.ts";
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
  type Answer,
  type Attachment,
  type Configuration,
} from "./plugin.ts";

const PROGRAMS = ["root", "ip", "nft", "ping", "sysctl", "nsenter"];
const REFERENCE = [
  ...PROGRAMS,
  "iptables",
  ...(existsSync(REFERENCE_DIRECTORY) ? [] : ["containernetworking-plugins"]),
];
const withPrograms = testWith(PROGRAMS);
const withReference = testWith(REFERENCE);

/** Somebody's IPAM plugin: a shell script that notes how it was called, and answers as it is told. */
class Lease {
  readonly directory = mkdtempSync(join(tmpdir(), "wayout-ipam-"));

  /** @param answers what it prints for a command; with `exit`, that it fails. Nothing: success */
  constructor(answers: Readonly<Record<string, string>>) {
    afterThisTest(() => rmSync(this.directory, { recursive: true }));
    const cases = Object.entries(answers).map(([command, answer]) => `${command}) ${answer};;`);
    const script = `#!/bin/sh
cd ${this.directory}
cat > input.$CNI_COMMAND
{ echo $CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $CNI_NETNS $CNI_ARGS $CNI_PATH
  [ -z "$CNI_NETNS" ] || nsenter --net=$CNI_NETNS ip -br link show dev $CNI_IFNAME 2>&1 | cut -c1-18; } > call.$CNI_COMMAND
echo $CNI_COMMAND >> calls
case $CNI_COMMAND in ${cases.join("\n")} esac
`;
    writeFileSync(join(this.directory, "lease"), script);
    chmodSync(join(this.directory, "lease"), 0o755);
  }

  call(node: NetworkNamespace, command: string, conf: Configuration, pod: Partial<Attachment> = {}): Answer {
    const environment = { ...environmentOf(command, pod), CNI_PATH: `/nowhere:${this.directory}` };
    return rawCall(node, "wayout", JSON.stringify(conf), environment);
  }

  /** The commands it was called with since the last time. */
  calls(): string[] {
    const path = join(this.directory, "calls");
    if (!existsSync(path)) return [];
    const text = readFileSync(path, "utf8");
    rmSync(path);
    return text.trim().split("\n");
  }

  read(name: string): string {
    return readFileSync(join(this.directory, name), "utf8");
  }
}

describe("delegated address management", () => {
  withReference("static", () => {
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
  });

  testWith([...REFERENCE, "busybox"])(
    "dhcp: a lease from a server on the bridge, as with the reference plugin",
    async () => {
      const { node } = nodeWithOutside();
      const directory = mkdtempSync(join(tmpdir(), "wayout-dhcp-"));
      afterThisTest(() => rmSync(directory, { recursive: true }));
      const lan = freshNamespace("lan");
      ask(node, ["ip", "link", "add", "cni0", "type", "bridge"]);
      ask(node, ["ip", "link", "set", "cni0", "up"]);
      ask(node, ["ip", "link", "add", "lan0", "type", "veth", "peer", "name", "eth0", "netns", lan.name!]);
      ask(node, ["ip", "link", "set", "lan0", "master", "cni0", "up"]);
      ask(lan, ["ip", "address", "add", "10.42.0.254/24", "dev", "eth0"]);
      ask(lan, ["ip", "link", "set", "eth0", "up"]);
      writeFileSync(join(directory, "leases"), "");
      writeFileSync(
        join(directory, "udhcpd.conf"),
        `start 10.42.0.50
end 10.42.0.59
max_leases 10
interface eth0
lease_file ${directory}/leases
pidfile ${directory}/pid
option subnet 255.255.255.0
option router 10.42.0.1
`,
      );
      const socket = join(directory, "dhcp.sock");
      const quiet = { stdin: "ignore", stdout: "ignore", stderr: "ignore" } as const;
      const daemons = [
        lan.run(() => Bun.spawn(["busybox", "udhcpd", "-f", join(directory, "udhcpd.conf")], quiet)),
        node.run(() => Bun.spawn([join(pluginDirectory(), "dhcp"), "daemon", "-socketpath", socket], quiet)),
      ];
      afterThisTest(async () => {
        for (const daemon of daemons) daemon.kill();
        await Promise.all(daemons.map(({ exited }) => exited));
      });
      for (let waited = 0; !existsSync(socket) && waited < 10_000; waited += 20) await Bun.sleep(20);
      const ipam = { type: "dhcp", daemonSocketPath: socket };
      const conf = bridgeNetwork({ cniVersion: "1.0.0", ipam });
      const pod = freshPod();
      const result = must(call(node, "ADD", conf, pod));
      expect(result.ips![0]).toMatchObject({ gateway: "10.42.0.1", interface: 2 });
      expect(result.ips![0]!.address).toMatch(/^10\.42\.0\.5\d\/24$/);
      expect(addressesOn(pod.namespace, "eth0")).toEqual([result.ips![0]!.address]);
      expect(addressesOn(node, "cni0")).toEqual(["10.42.0.1/24"]);
      expect(pings(pod.namespace, "198.51.100.1")).toBe(true);
      must(call(node, "CHECK", { ...conf, prevResult: result }, pod));
      must(call(node, "DEL", { ...conf, prevResult: result }, pod));
      expect(linkNames(pod.namespace)).toEqual(["lo"]);
      // Nobody holds the lease any more: a second release says so, and is success.
      must(call(node, "DEL", conf, pod));
    },
  );

  withPrograms(
    "any other plugin is called as the specification says, and finds the interface it is asked about",
    () => {
      const { node } = nodeWithOutside();
      const result = {
        cniVersion: "1.1.0",
        ips: [{ address: "10.42.0.7/24" }, { address: "fd00:42::7/64", gateway: "fd00:42::1" }],
        routes: [{ dst: "198.51.100.0/24", mtu: 1300 }],
        dns: { nameservers: ["192.0.2.53"] },
      };
      const lease = new Lease({ ADD: `echo '${JSON.stringify(result)}'` });
      const conf = bridgeNetwork({ ipam: { type: "lease", extra: { any: ["thing"] } }, other: 1 });
      const pod = { ...freshPod("c1"), args: "IgnoreUnknown=1;FOO=bar" };
      const added = must(lease.call(node, "ADD", conf, pod));
      expect(lease.calls()).toEqual(["ADD"]);
      expect(JSON.parse(lease.read("input.ADD"))).toEqual(conf);
      expect(lease.read("call.ADD").split("\n")).toEqual([
        `ADD c1 eth0 ${pod.netns} IgnoreUnknown=1;FOO=bar /nowhere:${lease.directory}`,
        expect.stringMatching(/^eth0@/),
        "",
      ]);
      expect(added.ips).toEqual([
        { interface: 2, address: "10.42.0.7/24", gateway: "10.42.0.1" },
        { interface: 2, address: "fd00:42::7/64", gateway: "fd00:42::1" },
      ]);
      expect(added.dns).toEqual(result.dns);
      expect(addressesOn(pod.namespace, "eth0")).toEqual(["10.42.0.7/24", "fd00:42::7/64"]);
      expect(ask(pod.namespace, ["ip", "route", "show", "198.51.100.0/24"])).toContain(
        "via 10.42.0.1 dev eth0 mtu 1300",
      );
      expect(pings(pod.namespace, "198.51.100.1")).toBe(true);
      must(lease.call(node, "CHECK", { ...conf, prevResult: added }, pod));
      must(lease.call(node, "STATUS", conf));
      const valid = { "cni.dev/valid-attachments": [{ containerID: "c1", ifname: "eth0" }] };
      must(lease.call(node, "GC", { ...conf, ...valid }));
      expect(JSON.parse(lease.read("input.GC"))).toEqual({ ...conf, ...valid });
      must(lease.call(node, "DEL", { ...conf, prevResult: added }, { container: "c1", args: pod.args }));
      expect(lease.calls()).toEqual(["CHECK", "STATUS", "GC", "DEL"]);
      expect(podLinks(node)).toEqual([]);
      expect(ask(node, ["nft", "list", "ruleset"])).toBe("");
    },
  );

  const failed = `echo '{"cniVersion":"1.1.0","code":42,"msg":"no lease","details":"ask again"}'; exit 1`;
  const answers: readonly (readonly [string, string, object])[] = [
    ["an error: its code is handed on", failed, { code: 42, details: "ask again" }],
    ["a death without a word", "exit 3", { code: 108, msg: expect.stringContaining("it ended with 3") }],
    ["no JSON", "echo hello", { code: 108, msg: expect.stringContaining("not JSON") }],
    [
      "success and no address",
      `echo '{"cniVersion":"1.1.0"}'`,
      { code: 108, msg: expect.stringContaining("returned none") },
    ],
    ["a result of an unknown version", `echo '{"cniVersion":"9.0.0"}'`, { code: 1 }],
  ];
  for (const [name, answer, json] of answers) {
    withPrograms(`it answers ADD with ${name}; it is asked to DEL, and nothing is left`, () => {
      const node = freshNamespace("node");
      const pod = freshPod();
      const lease = new Lease({ ADD: answer });
      const before = [stateOf(node), stateOf(pod.namespace)];
      const conf = bridgeNetwork({ ipam: { type: "lease" } });
      expect(lease.call(node, "ADD", conf, pod)).toMatchObject({ exitCode: 1, json });
      expect(lease.calls()).toEqual(["ADD", "DEL"]);
      expect([stateOf(node), stateOf(pod.namespace)]).toEqual(before);
    });
  }

  withPrograms(
    "its refusals of CHECK, STATUS, GC and DEL are ours, with its codes; DEL does the rest",
    () => {
      const node = freshNamespace("node");
      const pod = freshPod("c1");
      const ok = `echo '{"cniVersion":"1.1.0","ips":[{"address":"10.42.0.7/24"}]}'`;
      const lease = new Lease({ ADD: ok, CHECK: failed, STATUS: failed, GC: failed, DEL: failed });
      const conf = bridgeNetwork({ ipam: { type: "lease" } });
      const result = must(lease.call(node, "ADD", conf, pod));
      expect(lease.call(node, "CHECK", { ...conf, prevResult: result }, pod).json?.code).toBe(42);
      expect(lease.call(node, "STATUS", conf).json?.code).toBe(42);
      const gc = lease.call(node, "GC", { ...conf, "cni.dev/valid-attachments": [] });
      expect(gc.json).toMatchObject({ code: 111, msg: expect.stringContaining("no lease") });
      expect(podLinks(node)).toEqual([]);
      expect(lease.call(node, "DEL", conf, pod).json?.code).toBe(42);
      expect(run(node, ["nft", "list", "ruleset"]).stdout).toBe("");
    },
  );

  withPrograms("one that is nowhere is named", () => {
    const lease = new Lease({});
    const conf = bridgeNetwork({ ipam: { type: "nobody" } });
    const node = freshNamespace("node");
    expect(lease.call(node, "ADD", conf, freshPod()).json).toMatchObject({
      code: 108,
      msg: expect.stringContaining(`IPAM plugin nobody: it is not in /nowhere:${lease.directory}`),
    });
    expect(linkNames(node)).toEqual(["lo"]);
  });
});

describe("in a chain", () => {
  testWith([...REFERENCE, "tc", "busybox"])(
    "portmap, firewall, tuning and bandwidth work on our result; DEL leaves nothing of the pod",
    () => {
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
    },
  );

  withReference("after other plugins: what they reported is passed on, ours comes behind it", () => {
    const node = freshNamespace("node");
    const pod = freshPod();
    const first = {
      cniVersion: "1.0.0",
      name: networkName(),
      type: "ptp",
      ipam: { type: "host-local", subnet: "10.60.0.0/24", routes: [{ dst: "198.51.100.0/24" }] },
    };
    const earlier = must(call(node, "ADD", first, { ...pod, interfaceName: "first0" }));
    const conf = bridgeNetwork({ cniVersion: "1.0.0", name: first.name, prevResult: earlier });
    const result = must(call(node, "ADD", conf, pod));
    const { length } = earlier.interfaces!;
    expect(result.interfaces!.slice(0, length)).toEqual([...earlier.interfaces!]);
    expect(result.interfaces!.slice(length).map(({ name }) => name)).toEqual([
      "cni0",
      expect.stringMatching(/^wout/),
      "eth0",
    ]);
    expect(result.ips).toEqual([
      ...earlier.ips!,
      { interface: length + 2, address: "10.42.0.2/24", gateway: "10.42.0.1" },
    ]);
    expect(result.routes).toEqual([...earlier.routes!, { dst: "0.0.0.0/0", gw: "10.42.0.1" }]);
    must(call(node, "CHECK", { ...conf, prevResult: result }, pod));
    must(call(node, "DEL", { ...conf, prevResult: result }, pod));
    expect(linkNames(pod.namespace)).toEqual(["lo", "first0"]);
  });
});
