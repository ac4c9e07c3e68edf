/** The way is broken in one place after the other; each time the right step is named, with the right reason. */
import { afterEach, expect } from "bun:test";
import type { TraceStop, TraceReport } from "../../src/trace/report.ts";
import type { TraceRequest } from "../../src/trace/trace.ts";
import { ask, run, testWith } from "../support/witness.ts";
import { makeWorld, type PodWorld, type PodWorldOptions } from "./world.ts";

let world: PodWorld | undefined;

afterEach(async () => {
  await world?.[Symbol.asyncDispose]();
  world = undefined;
});

interface Fault {
  readonly name: string;
  readonly needs?: readonly string[];
  readonly options?: PodWorldOptions;
  readonly request?: Partial<TraceRequest>;
  readonly break: (world: PodWorld) => void;
  readonly step: number;
  readonly code: string;
  /** Found in the sentence that tells the reason. */
  readonly reason: RegExp;
  readonly rule?: Partial<NonNullable<TraceStop["rule"]>>;
}

const FAULTS: readonly Fault[] = [
  {
    name: "no route in the pod",
    break: (w) => w.in("pod", "ip", "route", "del", "default"),
    step: 1,
    code: "pod-no-route",
    reason: /the pod has no route to 198\.51\.100\.80/,
  },
  {
    name: "the pod's interface is down",
    break: (w) => w.in("pod", "ip", "link", "set", "net1", "down"),
    step: 1,
    code: "pod-link-down",
    reason: /net1 in the pod is down/,
  },
  {
    name: "the gateway's address is missing on the bridge",
    break: (w) => w.in("node", "ip", "addr", "del", "10.20.0.1/24", "dev", "lan0"),
    step: 1,
    code: "pod-gateway-unresolved",
    reason: /gateway 10\.20\.0\.1 does not answer ARP/,
  },
  {
    name: "the node's ARP rules drop the pod's question",
    break: (w) => {
      w.nft(
        "table arp guard { chain in { type filter hook input priority 0; arp operation request drop; }; }",
      );
      w.in("pod", "ip", "neigh", "flush", "dev", "net1");
    },
    step: 1,
    code: "pod-gateway-unresolved",
    reason:
      /the question reaches lan0, the node has the address and does not answer; table arp guard may drop it/,
  },
  {
    name: "the node ignores ARP",
    break: (w) => {
      w.in("node", "sysctl", "-qw", "net.ipv4.conf.lan0.arp_ignore=8");
      w.in("pod", "ip", "neigh", "flush", "dev", "net1");
    },
    step: 1,
    code: "pod-gateway-unresolved",
    reason: /the node has the address and does not answer/,
  },
  {
    name: "the node's input rules drop neighbour solicitations",
    needs: ["real-root"],
    options: { ipv6: true },
    request: { destination: "[2001:db8:198::80]:443" },
    break: (w) => {
      w.nft(
        "table ip6 own { chain in { type filter hook input priority 0; meta l4proto ipv6-icmp drop; }; }",
      );
      w.in("pod", "ip", "-6", "neigh", "flush", "dev", "net1");
    },
    step: 1,
    code: "pod-gateway-unresolved",
    reason: /the node drops the pod's request for its gateway fd20::1 .*NETFILTER_DROP/,
  },
  {
    name: "the host's end of the veth is down",
    break: (w) => w.in("node", "ip", "link", "set", "veth-pod", "down"),
    step: 1,
    code: "pod-no-carrier",
    reason: /net1 in the pod has no carrier/,
  },
  {
    name: "the pod's bridge port is locked, and its gateway known",
    break: (w) => {
      w.trace();
      lock(w);
    },
    step: 2,
    code: "bridge-port-locked",
    reason: /the port veth-pod of lan0 is locked, and the pod's MAC address .* is not in/,
  },
  {
    name: "the pod's bridge port is locked: not even ARP gets through",
    break: (w) => {
      lock(w);
      w.in("pod", "ip", "neigh", "flush", "dev", "net1");
    },
    step: 1,
    code: "bridge-port-locked",
    reason: /the port veth-pod of lan0 is locked/,
  },
  {
    name: "forwarding is off",
    break: (w) => w.in("node", "sysctl", "-qw", "net.ipv4.ip_forward=0"),
    step: 3,
    code: "forwarding-off",
    reason: /net\.ipv4\.ip_forward is 0/,
  },
  {
    name: "forwarding is off for IPv6",
    options: { ipv6: true },
    request: { destination: "2001:db8:198::80" },
    break: (w) => w.in("node", "sysctl", "-qw", "net.ipv6.conf.all.forwarding=0"),
    step: 3,
    code: "forwarding-off",
    reason: /net\.ipv6\.conf\.all\.forwarding is 0/,
  },
  {
    name: "no NAT for IPv6",
    options: { ipv6: true, nat: false },
    request: { destination: "2001:db8:198::80" },
    break: () => {},
    step: 4,
    code: "nat-missing",
    reason: /the pod's own address fd20::2/,
  },
  {
    name: "a bridge's own rule drops",
    break: (w) =>
      w.nft(`table bridge guard {
        chain pre {
          type filter hook prerouting priority filter
          iifname "veth-pod" ip daddr 198.51.100.80 drop
        }
      }`),
    step: 2,
    code: "bridge-filter-drops",
    reason: /on the bridge lan0: rule "iifname "veth-pod" ip daddr 198\.51\.100\.80 drop"/,
    rule: { family: "bridge", table: "guard" },
  },
  {
    name: "rejected by an nft rule",
    break: (w) =>
      w.nft(`table inet guard {
        chain fw {
          type filter hook forward priority filter
          tcp dport 443 reject with tcp reset
        }
      }`),
    step: 3,
    code: "filter-rule-drops",
    reason: /reject with tcp reset/,
  },
  {
    name: "rejected by an iptables-legacy rule",
    needs: ["iptables-legacy"],
    break: (w) =>
      w.in(
        "node",
        "iptables-legacy",
        "-A",
        "FORWARD",
        "-p",
        "tcp",
        "-j",
        "REJECT",
        "--reject-with",
        "tcp-reset",
      ),
    step: 3,
    code: "filter-rule-drops",
    reason: /filter FORWARD: .*REJECT/,
  },
  {
    name: "the bridge is down",
    break: (w) => w.in("node", "ip", "link", "set", "lan0", "down"),
    step: 1,
    code: "bridge-down",
    reason: /lan0 on the node is down/,
  },
  {
    name: "the pod knows a wrong link-layer address of its gateway",
    break: (w) => {
      // Another port, for the bridge to flood the frames to.
      w.in("node", "ip", "link", "add", "other", "type", "veth", "peer", "name", "end");
      w.in("node", "ip", "link", "set", "other", "master", "lan0", "up");
      w.in("node", "ip", "link", "set", "end", "up");
      w.in("pod", "ip", "neigh", "replace", "10.20.0.1", "lladdr", "02:00:00:00:00:99", "dev", "net1");
    },
    step: 2,
    code: "pod-gateway-wrong-mac",
    reason:
      /for its gateway 10\.20\.0\.1 to 02:00:00:00:00:99, but lan0, which has that address, has the MAC address /,
  },
  {
    name: "the node knows a wrong link-layer address of the pod",
    break: (w) =>
      w.in("node", "ip", "neigh", "replace", "10.20.0.2", "lladdr", "02:00:00:00:00:99", "dev", "lan0"),
    step: 9,
    code: "node-neighbour-wrong-mac",
    reason: /packets for 10\.20\.0\.2 to 02:00:00:00:00:99, but net1 in the pod has the MAC address /,
  },
  {
    name: "the veth is taken from the bridge",
    break: (w) => w.in("node", "ip", "link", "set", "veth-pod", "nomaster"),
    step: 9,
    code: "network-overlap",
    reason:
      /route back to 10\.20\.0\.2 leaves by lan0, and the pod is behind veth-pod, which is no port of lan0/,
  },
  {
    name: "another network has the pod's address",
    break: (w) => {
      w.in("node", "ip", "link", "add", "br1", "type", "bridge");
      w.in("node", "ip", "addr", "add", "10.20.0.9/29", "dev", "br1");
      w.in("node", "ip", "link", "set", "br1", "up");
      w.in("node", "ip", "route", "add", "10.20.0.2/32", "dev", "br1");
    },
    step: 9,
    code: "network-overlap",
    reason: /route back to 10\.20\.0\.2 leaves by br1, and the pod is behind lan0/,
  },
  {
    name: "a route of the node refuses it",
    break: (w) => w.in("node", "ip", "route", "add", "prohibit", "198.51.100.0/24"),
    step: 3,
    code: "node-route-refused",
    reason: /a route of the node refuses 198\.51\.100\.80/,
  },
  {
    name: "the pod sends with a TTL of 1",
    break: (w) => w.in("pod", "sysctl", "-qw", "net.ipv4.ip_default_ttl=1"),
    step: 3,
    code: "ttl-exceeded",
    reason: /its time to live ran out|time to live exceeded/,
  },
  {
    name: "a rule lowers the TTL",
    break: (w) =>
      w.nft("table ip few { chain pre { type filter hook prerouting priority mangle; ip ttl set 1; }; }"),
    step: 3,
    code: "ttl-exceeded",
    reason: /its time to live ran out|time to live exceeded/,
  },
  {
    name: "no route on the node",
    break: (w) => w.in("node", "ip", "route", "del", "default"),
    step: 3,
    code: "node-no-route",
    reason: /the node has no route to 198\.51\.100\.80/,
  },
  {
    name: "the uplink is down",
    break: (w) => w.in("node", "ip", "link", "set", "ens4", "down"),
    step: 3,
    code: "node-no-route",
    reason: /down on the node: .*ens4/,
  },
  {
    name: "dropped in forward by an nft rule",
    break: (w) =>
      w.nft(`table inet guard {
        chain fw {
          type filter hook forward priority filter
          tcp dport 443 drop
        }
      }`),
    step: 3,
    code: "filter-rule-drops",
    reason: /dropped in forward.*chain fw in table inet guard/,
    rule: { family: "inet", table: "guard", chain: "fw" },
  },
  {
    name: "dropped by an nft policy",
    break: (w) =>
      w.nft(`table inet guard {
        chain fw {
          type filter hook forward priority filter; policy drop
        }
      }`),
    step: 3,
    code: "filter-policy-drops",
    reason: /the policy drop of chain fw in table inet guard/,
  },
  {
    name: "dropped by an iptables-nft rule",
    needs: ["iptables-nft"],
    break: (w) => w.in("node", "iptables-nft", "-A", "FORWARD", "-p", "tcp", "--dport", "443", "-j", "DROP"),
    step: 3,
    code: "filter-rule-drops",
    reason: /chain FORWARD in table ip filter/,
    rule: { family: "ip", table: "filter", chain: "FORWARD" },
  },
  {
    name: "dropped by an iptables-legacy rule",
    needs: ["iptables-legacy"],
    break: (w) =>
      w.in("node", "iptables-legacy", "-A", "FORWARD", "-p", "tcp", "--dport", "443", "-j", "DROP"),
    step: 3,
    code: "filter-rule-drops",
    reason: /iptables-legacy dropped it: filter FORWARD/,
  },
  {
    name: "reverse path filtering",
    break: (w) => {
      w.in("node", "sysctl", "-qw", "net.ipv4.conf.lan0.rp_filter=1");
      // Back to the pod by the uplink, says this route.
      w.in("node", "ip", "route", "add", "10.20.0.2/32", "via", "203.0.113.1");
      const [bridge] = JSON.parse(w.in("node", "ip", "-j", "link", "show", "lan0")) as [{ address: string }];
      w.in("pod", "ip", "neigh", "replace", "10.20.0.1", "lladdr", bridge.address, "dev", "net1");
    },
    step: 3,
    code: "reverse-path-filter",
    reason: /net\.ipv4\.conf\.lan0\.rp_filter = 1.*route to 10\.20\.0\.2 leaves by another interface/,
  },
  {
    name: "reverse path filtering that begins with ARP",
    break: (w) => {
      w.in("node", "sysctl", "-qw", "net.ipv4.conf.lan0.rp_filter=1");
      w.in("node", "ip", "route", "add", "10.20.0.2/32", "via", "203.0.113.1");
    },
    step: 1,
    code: "reverse-path-filter",
    reason: /net\.ipv4\.conf\.lan0\.rp_filter = 1/,
  },
  {
    name: "reverse path filtering of the answer",
    break: (w) => {
      w.in("node", "sysctl", "-qw", "net.ipv4.conf.ens4.rp_filter=1");
      // What comes from the pods is marked and takes a route of its own; answers are not, and have none.
      w.nft(`table ip marking {
        chain pre {
          type filter hook prerouting priority mangle
          iifname "lan0" meta mark set 1
        }
      }`);
      w.in("node", "ip", "rule", "add", "fwmark", "1", "lookup", "100");
      w.in("node", "ip", "route", "add", "default", "via", "203.0.113.1", "table", "100");
      w.in("node", "ip", "route", "add", "198.51.100.0/24", "dev", "lan0");
    },
    step: 9,
    code: "reverse-path-filter",
    reason: /net\.ipv4\.conf\.ens4\.rp_filter = 1.*route to 198\.51\.100\.80 leaves by another interface/,
  },
  {
    name: "no NAT",
    options: { nat: false },
    break: () => {},
    step: 4,
    code: "nat-missing",
    reason: /left by ens4 with the pod's own address 10\.20\.0\.2/,
  },
  {
    name: "dropped in postrouting",
    break: (w) =>
      w.nft(`table inet guard {
        chain post {
          type filter hook postrouting priority -10
          ip daddr 198.51.100.80 drop
        }
      }`),
    step: 4,
    code: "filter-rule-drops",
    reason: /dropped in postrouting/,
  },
  {
    name: "dropped in postrouting, behind the translation",
    break: (w) =>
      w.nft(`table inet guard {
        chain post {
          type filter hook postrouting priority 200
          ip daddr 198.51.100.80 drop
        }
      }`),
    step: 6,
    code: "filter-rule-drops",
    reason: /dropped in postrouting/,
  },
  {
    name: "the next hop is silent",
    break: (w) => w.in("internet", "ip", "addr", "del", "203.0.113.1/24", "dev", "up0"),
    step: 6,
    code: "uplink-gateway-unresolved",
    reason: /next hop 203\.0\.113\.1 does not answer ARP on ens4/,
  },
  {
    name: "the outside is silent",
    break: (w) =>
      ask(
        w.internet,
        ["nft", "-f", "-"],
        `table inet wall {
        chain in {
          type filter hook input priority filter
          tcp dport 443 drop
        }
      }`.replace("chain in {", "chain inp {"),
      ),
    step: 7,
    code: "no-answer",
    reason: /left the node by ens4 as 203\.0\.113\.2:\d+ → 198\.51\.100\.80:443 tcp SYN, and no answer came/,
  },
  {
    name: "the answer is dropped",
    break: (w) =>
      w.nft(`table inet guard {
        chain fw {
          type filter hook forward priority filter
          ct direction reply drop
        }
      }`),
    step: 9,
    code: "filter-rule-drops",
    reason: /the answer, in forward/,
    rule: { table: "guard", chain: "fw" },
  },
  {
    name: "the answer is dropped before conntrack sees it",
    break: (w) =>
      w.nft(`table inet guard {
        chain early {
          type filter hook prerouting priority raw
          ip saddr 198.51.100.80 drop
        }
      }`),
    step: 8,
    code: "filter-rule-drops",
    reason: /the answer, in prerouting/,
  },
  {
    name: "the answer is kept out of connection tracking",
    break: (w) =>
      w.nft(`table ip early {
        chain pre {
          type filter hook prerouting priority raw
          iifname "ens4" notrack
        }
      }`),
    step: 8,
    code: "answer-unrecognized",
    reason: /the answer came to 203\.0\.113\.2:\d+ and it belongs to no tracked connection/,
  },
  {
    name: "the pod drops the answer",
    break: (w) =>
      ask(
        w.pod,
        ["nft", "-f", "-"],
        `table inet own {
        chain inp {
          type filter hook input priority filter
          ip saddr 198.51.100.80 drop
        }
      }`,
      ),
    step: 9,
    code: "filter-rule-drops",
    reason: /in the pod itself/,
  },
  {
    name: "the way out takes less than the pod sends",
    request: { destination: "198.51.100.80", protocol: "icmp", sizeBytes: 1472 },
    break: (w) => {
      w.in("node", "ip", "link", "set", "ens4", "mtu", "1400");
      w.in("internet", "ip", "link", "set", "up0", "mtu", "1400");
    },
    step: 3,
    code: "mtu-too-large",
    reason: /1500 bytes, ens4 takes 1400/,
  },
];

for (const fault of FAULTS) {
  testWith(["root", "nft", ...(fault.needs ?? [])])(`${fault.name}: step ${fault.step}`, async () => {
    world = await makeWorld(fault.options);
    fault.break(world);
    const report = world.trace(fault.request);
    expect([report.outcome, report.stop?.step, report.stop?.code, report.stop?.reason]).toEqual([
      "stopped",
      fault.step,
      fault.code,
      expect.stringMatching(fault.reason),
    ]);
    if (fault.rule !== undefined) expect(report.stop?.rule).toMatchObject(fault.rule);
    expectOrdered(report);
  });
}

/** What comes before the stop happened; what comes after did not. */
function expectOrdered(report: TraceReport): void {
  for (const step of report.steps) {
    if (step.number < report.stop!.step)
      expect([step.number, step.status]).toEqual([step.number, expect.stringMatching(/proven|not-needed/)]);
    else if (step.number === report.stop!.step) expect(step.status).toBe("stopped");
  }
  expect(report.stop!.lastSeen).not.toBe("");
}

/** As 802.1X does it: only senders that the forwarding database has behind the port may pass. */
function lock(w: PodWorld): void {
  w.in("node", "bridge", "link", "set", "dev", "veth-pod", "locked", "on", "learning", "off");
  const [{ address: mac }] = JSON.parse(w.in("pod", "ip", "-j", "link", "show", "net1")) as [
    { address: string },
  ];
  run(w.node, ["bridge", "fdb", "del", mac, "dev", "veth-pod", "master"]);
}

testWith(["root", "nft"])(
  "a locked port that knows the pod lets it through, as the fix makes it",
  async () => {
    world = await makeWorld();
    lock(world);
    const { stop } = world.trace();
    ask(world.node, ["sh", "-c", stop!.fix![0]!.command]);
    world.in("pod", "ip", "neigh", "flush", "dev", "net1");
    expect(world.trace().stop?.reason).toBe(undefined);
  },
);
