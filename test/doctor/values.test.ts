/** Causes that no test can make on a machine that others use: a healthy node's snapshot, with other values in it. */
import { describe, expect } from "bun:test";
import { diagnose, type Diagnosis } from "../../src/doctor/diagnose.ts";
import type { FindingCode } from "../../src/causes/catalogue/all.ts";
import type { ConntrackState, NamespaceState, Snapshot } from "../../src/snapshot/snapshot.ts";
import { testWith } from "../support/witness.ts";
import { healthyWorld, snapshotOf, PLAN } from "./world.ts";

const WEB = { address: PLAN.internet.httpIpv4, protocol: "tcp", port: 80 } as const;

interface Case {
  readonly name: string;
  readonly change: (node: NamespaceState) => Partial<NamespaceState>;
  readonly findings: readonly FindingCode[];
  readonly healthy: boolean;
  /** Must stand in the first finding's sentence. */
  readonly text?: string;
}

function conntrack(node: NamespaceState, change: Partial<ConntrackState>): Partial<NamespaceState> {
  return { conntrack: { ...node.conntrack!, ...change } };
}

/** Both readings, the second with these counters larger. */
function grown(node: NamespaceState, counter: keyof ConntrackState["readings"][number], by: number) {
  const [first] = node.conntrack!.readings;
  return conntrack(node, { readings: [first!, { ...first!, [counter]: first![counter] + by }] });
}

function counted(node: NamespaceState, name: string, by: number): Partial<NamespaceState> {
  const [first] = node.counters;
  const values = { ...first!.values, [name]: (first!.values[name] ?? 0) + by };
  return { counters: [first!, { ...first!, values }] };
}

const TO_SITE = {
  protocol: "tcp",
  outgoing: PLAN.node.uplinkIpv4,
  destination: WEB.address,
  port: WEB.port,
} as const;
const LOST_TCP = {
  protocol: "tcp",
  source: PLAN.pods.blue.ipv4,
  sourcePort: 40_000,
  destination: WEB.address,
  destinationPort: WEB.port,
  translatedTo: PLAN.otherUplinkIpv4,
  answeredBy: WEB.address,
  answeredPort: WEB.port,
  count: 3,
  timeoutSeconds: 430_000,
  answered: true,
} as const;

const CASES: readonly Case[] = [
  {
    name: "the connection table is full",
    change: (node) => conntrack(node, { count: 262_144, max: 262_144 }),
    findings: ["conntrack-full"],
    healthy: false,
  },
  {
    name: "the connection table is nearly full",
    change: (node) => conntrack(node, { count: 215_000, max: 262_144 }),
    findings: ["conntrack-nearly-full"],
    healthy: true,
  },
  {
    name: "a namespace without a limit of its own",
    change: (node) => conntrack(node, { count: 500_000, max: 0 }),
    findings: [],
    healthy: true,
  },
  {
    name: "a kernel that neither tracks nor filters",
    change: () => ({ conntrack: undefined as never, ruleset: undefined as never }),
    findings: ["conntrack-missing"],
    healthy: false,
  },
  {
    name: "a kernel that tracks, and an empty ruleset",
    change: (node) => ({ ruleset: { ...node.ruleset!, tables: [] } }),
    findings: ["nat-missing"],
    healthy: false,
  },
  {
    name: "connections that are forgotten sooner than TCP's keepalive comes",
    change: (node) => ({
      sysctls: { ...node.sysctls, "net.netfilter.nf_conntrack_tcp_timeout_established": "600" },
    }),
    findings: ["conntrack-timeout-short"],
    healthy: true,
    text: "after 600 s of silence",
  },
  {
    name: "a day, as kube-proxy sets it",
    change: (node) => ({
      sysctls: { ...node.sysctls, "net.netfilter.nf_conntrack_tcp_timeout_established": "86400" },
    }),
    findings: [],
    healthy: true,
  },
  {
    name: "no picking up of unknown connections, and nobody drops them",
    change: (node) => ({ sysctls: { ...node.sysctls, "net.netfilter.nf_conntrack_tcp_loose": "0" } }),
    findings: [],
    healthy: true,
  },
  {
    name: "races for one entry",
    change: (node) => grown(node, "insertFailed", 4),
    findings: ["conntrack-insert-failed"],
    healthy: true,
    text: "4 connections",
  },
  {
    name: "drops for want of room",
    change: (node) => grown(node, "earlyDrop", 9),
    findings: ["conntrack-dropping"],
    healthy: true,
  },
  {
    name: "packets that conntrack calls invalid, and nobody drops them",
    change: (node) => grown(node, "invalid", 5),
    findings: ["invalid-leaks"],
    healthy: true,
  },
  {
    name: "wrong checksums",
    change: (node) => counted(node, "IpExt.InCsumErrors", 7),
    findings: ["checksum-errors"],
    healthy: true,
  },
  {
    name: "all ports toward the site are taken",
    change: (node) => conntrack(node, { portUse: [{ ...TO_SITE, used: 64_200 }] }),
    findings: ["ports-exhausted"],
    healthy: false,
    text: "64200 of the 64512 source ports (1024-65535) of 203.0.113.5",
  },
  {
    name: "most ports toward the site are taken",
    change: (node) => conntrack(node, { portUse: [{ ...TO_SITE, used: 52_000 }] }),
    findings: ["ports-nearly-exhausted"],
    healthy: true,
  },
  {
    name: "many ports toward the site are free",
    change: (node) => conntrack(node, { portUse: [{ ...TO_SITE, used: 51_000 }] }),
    findings: [],
    healthy: true,
  },
  {
    name: "all ports toward somebody else are taken: worth knowing, no cause",
    change: (node) =>
      conntrack(node, { portUse: [{ ...TO_SITE, destination: "198.51.100.99", used: 64_500 }] }),
    findings: ["ports-exhausted"],
    healthy: true,
  },
  {
    name: "TCP connections with a lost address: programs begin new ones",
    change: (node) => conntrack(node, { flows: [LOST_TCP] }),
    findings: ["conntrack-stale-translation"],
    healthy: true,
    text: "3 tracked flows are translated to 203.0.113.77",
  },
  {
    name: "a UDP flow to somebody else that keeps a lost address",
    change: (node) =>
      conntrack(node, { flows: [{ ...LOST_TCP, protocol: "udp", destination: "198.51.100.99" }] }),
    findings: ["conntrack-stale-translation"],
    healthy: true,
  },
  {
    name: "flows of another pod, whose rules may be others",
    change: (node) => conntrack(node, { flows: [{ ...LOST_TCP, source: PLAN.pods.green.ipv4 }] }),
    findings: [],
    healthy: true,
  },
  {
    name: "flows from outside to the node itself",
    change: (node) =>
      conntrack(node, { flows: [{ ...LOST_TCP, source: "198.51.100.9", destination: "203.0.113.5" }] }),
    findings: [],
    healthy: true,
  },
];

function judge(snapshot: Snapshot, { change }: Case): Diagnosis {
  const changed = { ...snapshot, node: { ...snapshot.node, ...change(snapshot.node) } };
  return diagnose(changed, changed.pods[0]!, WEB);
}

describe("a value in a healthy node's snapshot", () => {
  let taken: Snapshot | undefined;
  for (const one of CASES) {
    testWith(["root"])(one.name, () => {
      // One world serves them all: the doctor reads nothing but the snapshot.
      taken ??= snapshotOf(healthyWorld());
      const { findings, healthy, gaps } = judge(taken, one);
      expect(findings.map(({ code }) => code)).toEqual([...one.findings]);
      expect(healthy).toBe(one.healthy);
      expect(gaps).toEqual([]);
      if (one.text !== undefined) expect(findings[0]!.text).toContain(one.text);
    });
  }
});

testWith(["root"])("an IPv6 address that was refused as a duplicate is taken from nobody", () => {
  const { blue } = PLAN.pods;
  const snapshot = snapshotOf(healthyWorld(), [PLAN.internet.httpIpv6]);
  const [pod, ...others] = snapshot.pods;
  const addresses = pod!.state!.addresses.map((one) =>
    one.address === blue.ipv6 ? { ...one, flags: ["dadfailed", "tentative"] } : one,
  );
  // The kernel then answers with what is left: the link-local address, which nobody forwards.
  const routeAnswers = pod!.state!.routeAnswers.map(({ query, answer }) => ({
    query,
    answer: answer.reachable ? { ...answer, source: "fe80::1" } : answer,
  }));
  const changed = { ...pod!, state: { ...pod!.state!, addresses, routeAnswers } };
  const target = { address: PLAN.internet.httpIpv6, protocol: "tcp", port: 80 } as const;
  const { findings } = diagnose({ ...snapshot, pods: [changed, ...others] }, changed, target);
  expect(findings.map((one) => one.code)).toEqual(["pod-address-unusable"]);
  expect(findings[0]!.fix).toEqual([]);
  expect(findings[0]!.advice).toEqual([
    `find the other host that has ${blue.ipv6}, and delete it there; then make ${blue.namespace} anew: ${blue.ipv6}/64 stays marked until it is given again`,
  ]);
});
