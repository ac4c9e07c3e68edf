/**
 * Services that kube-proxy keeps in IPVS. The kernel that runs the tests may have none: links, addresses, routes and rules
 * are real, the table is as /proc/net/ip_vs prints it.
 */
import { expect } from "bun:test";
import { diagnose, type Diagnosis } from "../../src/doctor/diagnose.ts";
import { parseVirtualServices } from "../../src/kernel/procfs.ts";
import { ask, testWith } from "../support/witness.ts";
import { healthyWorld, snapshotOf, type World } from "./world.ts";

const SERVICE = "10.96.0.10";
const HEAD = `IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A60000A:01BB rr
`;
/** 198.51.100.80:6443 and 198.51.100.81:6443, outside; 192.0.2.9:6443, to which there is no way. */
const OUTSIDE = "  -> C6336450:192B      Masq    1      0          0\n";
const OUTSIDE_TOO = "  -> C6336451:192B      Masq    1      0          0\n";
const NOWHERE = "  -> C0000209:192B      Masq    1      0          0\n";
const DRAINED = "  -> C6336450:192B      Masq    0      0          0\n";

/** A node whose kube-proxy has a Service in IPVS, and masquerades what its ipset names. */
function world(): World {
  const world = healthyWorld();
  const node = (line: string): string => ask(world.node, line.split(" "));
  node("ip link add kube-ipvs0 type bridge");
  node(`ip addr add ${SERVICE}/32 dev kube-ipvs0`);
  node("ip route add unreachable 192.0.2.9");
  ask(
    world.node,
    ["nft", "-f", "-"],
    `table ip kube {
      chain services { type nat hook prerouting priority dstnat; ip daddr ${SERVICE} tcp dport 443 meta mark set meta mark | 0x4000; }
      chain postrouting { type nat hook postrouting priority srcnat; meta mark & 0x4000 == 0x4000 masquerade fully-random; }
    }`,
  );
  return world;
}

function look(open: World, servers: string, sysctls: Readonly<Record<string, string>> = {}): Diagnosis {
  const taken = snapshotOf(open, [SERVICE]);
  const { node } = taken;
  const snapshot = {
    ...taken,
    node: {
      ...node,
      virtualServices: parseVirtualServices(HEAD + servers),
      sysctls: { ...node.sysctls, "net.ipv4.vs.conntrack": "1", ...sysctls },
    },
  };
  return diagnose(snapshot, snapshot.pods[0]!, { address: SERVICE, protocol: "tcp", port: 443 });
}

testWith(["root", "ip", "nft"])("servers of a Service in IPVS are followed to their ends", () => {
  const open = world();
  const healthy = look(open, OUTSIDE + OUTSIDE_TOO);
  expect(healthy.findings.map((one) => one.text)).toEqual([]);
  expect([healthy.healthy, healthy.certain, healthy.gaps]).toEqual([true, true, []]);
  expect(healthy.path.left).toMatch(/^203\.0\.113\.5:\d+ → 198\.51\.100\.8[01]:6443$/);

  const half = look(open, OUTSIDE + NOWHERE);
  expect(half.healthy).toBe(false);
  expect(half.findings.map((one): string => one.code)).toEqual(["branch-fails"]);
  expect(half.findings[0]!.text).toContain("192.0.2.9");

  const nowhere = look(open, NOWHERE);
  expect(nowhere.healthy).toBe(false);
  expect(nowhere.findings[0]?.code).toBe("node-route-refused");
});

testWith(["root", "ip", "nft"])(
  "a Service in IPVS without servers is named, its rules are not blamed",
  () => {
    const open = world();
    for (const [servers, says] of [
      ["", /has no servers/],
      [DRAINED, /has 1 servers, all with weight 0/],
    ] as const) {
      const { healthy, findings } = look(open, servers);
      expect(healthy).toBe(false);
      expect(findings.map((one): string => one.code)).toEqual(["service-no-endpoints"]);
      expect(findings[0]!.text).toMatch(says);
      expect(findings[0]!.owner).toContain("kube-proxy (IPVS)");
      expect(findings[0]!.fix).toEqual([]);
    }
  },
);

testWith(["root", "ip", "nft"])("what IPVS keeps out of connection tracking nobody translates", () => {
  const { healthy, findings } = look(world(), OUTSIDE, { "net.ipv4.vs.conntrack": "0" });
  expect(healthy).toBe(false);
  expect(findings[0]!.text).toContain("net.ipv4.vs.conntrack");
  expect(findings[0]!.fix.map((one): string => one.command).join()).toMatch(
    /sysctl -w net\.ipv4\.vs\.conntrack=1/,
  );
});

testWith(["root", "ip", "nft"])("a filter at input is met before IPVS", () => {
  const open = world();
  ask(open.node, ["nft", "add", "table", "ip", "wall"]);
  ask(open.node, ["nft", "add chain ip wall in { type filter hook input priority 0; }"]);
  ask(open.node, ["nft", `add rule ip wall in ip daddr ${SERVICE} drop`]);
  const { findings } = look(open, OUTSIDE);
  expect(findings[0]?.code).toBe("filter-rule-drops");
  expect(findings[0]!.text).toContain("ip wall in");
});

testWith(["root", "ip", "nft"])(
  "a service by mark takes what has the mark, and gives it the port that was asked for",
  () => {
    const open = world();
    const marked = (mark: string): string =>
      `FWM  ${mark} rr\n  -> C6336450:0000      Masq    1      0          0\n`;
    // Beside the service of the address and port, which has no server.
    const other = look(open, marked("00000007"));
    expect(other.findings.map((one) => one.code)).toEqual(["service-no-endpoints"]);
    const own = look(open, marked("00004000"));
    expect(own.findings.map((one) => one.text)).toEqual([]);
    expect(own.path.left).toContain("→ 198.51.100.80:443");
    const drained = look(open, "FWM  00004000 rr\n");
    expect(drained.findings[0]?.text).toStartWith(
      "the Service at fwmark 16384 has no ready endpoints: its virtual service in IPVS has no servers",
    );
  },
);
