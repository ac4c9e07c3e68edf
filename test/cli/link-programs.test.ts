/** What the commands say of a node whose pods are translated by eBPF programs: as much as of one with rules. */
import { expect } from "bun:test";
import { join } from "node:path";
import { deleteNamedNamespace } from "../../src/kernel/named-namespace.ts";
import { detachFromLink } from "../../src/kernel/bpf/link.ts";
import { pinnedObject } from "../../src/kernel/bpf/map.ts";
import { namesIn, namespaceDirectory } from "../../src/nat/backends/ebpf/bpf-directory.ts";
import { serving } from "../doctor/world.ts";
import { buildNodeWorld } from "../support/node-world.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, run, testWith, type Ran } from "../support/witness.ts";

const WAYOUT = join(import.meta.dir, "..", "..", "bin", "wayout");

testWith(["root", "real-root", "ip", "nft"])(
  "list, nat show, trace and doctor know the programs",
  async () => {
    const { node, outside } = buildNodeWorld({
      uplink: {
        name: "wan7",
        outsideName: "isp7",
        addresses: ["203.0.113.5/24"],
        outsideAddresses: ["203.0.113.1/24"],
        gateways: ["203.0.113.1"],
      },
      servers: ["198.51.100.80/32"],
    });
    await using _server = await serving(outside, 80, "");
    const wayout = (...args: string[]): Ran => node.run(() => run(undefined, [WAYOUT, ...args]));
    const told = (...args: string[]): string => {
      const ran = wayout(...args);
      expect([args, ran.stderr, ran.exitCode]).toEqual([args, "", 0]);
      return ran.stdout;
    };
    ask(node, ["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
    afterThisTest(() => {
      wayout("detach", "pink");
      deleteNamedNamespace("pink");
    });
    told("attach", "pink", "--create", "--backend", "ebpf");
    expect(told("list")).toContain("203.0.113.5 masquerade wan7 (eBPF)");
    const traced = told("trace", "pink", "198.51.100.80:80");
    expect(traced).toMatch(/✓ 4 .*\n.* → 203\.0\.113\.5:\d+, by wayout's eBPF program where it leaves/);
    expect(traced).toMatch(/✓ 5 .*\n.*\n +wayout's eBPF program: now ESTABLISHED/);
    expect(traced).toContain("✓ Answered after");
    const shown = told("nat", "show");
    expect(shown).toContain("wayout's eBPF programs at wan7, wayout0");
    expect(shown).toMatch(/● from 10\.213\.0\.0\/24: masquerade.*attach\/wayout0/);
    expect(told("doctor", "pink", "--to", "198.51.100.80:80")).toContain("by wayout's eBPF program at wan7");
    const index = /^(\d+): wan7/m.exec(ask(node, ["ip", "-o", "link"]))![1]!;
    const directory = namespaceDirectory(node)!;
    expect(namesIn(directory)).toContain(`ingress-${index}`);
    detachFromLink(pinnedObject(`${directory}/ingress-${index}`)!);
    expect(wayout("nat", "show").stdout).toContain("✗ only one of the two programs is attached to wan7");
    const broken = wayout("doctor", "pink", "--no-probe");
    expect([broken.exitCode, broken.stdout]).toEqual([
      1,
      expect.stringContaining("none is attached at the ingress of wan7"),
    ]);
    expect(told("attach", "pink")).toContain("pink");
    expect(told("doctor", "pink", "--no-probe")).toContain("can reach");
  },
);
