import { cidrContains, parseCidr } from "../../src/address/cidr.ts";
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { WayoutError } from "../../src/error.ts";
import { parsePolicy, readPolicy } from "../../src/policy/policy-file.ts";

async function refusal(text: string): Promise<WayoutError> {
  try {
    await parsePolicy(text, "policy.yaml");
  } catch (error) {
    if (error instanceof WayoutError) return error;
    throw error;
  }
  throw new Error("it was accepted");
}

test("the example is valid, and means what it says", async () => {
  const path = join(import.meta.dir, "../../examples/nat-policy.yaml");
  const { backend, intent, resyncIntervalMs } = await parsePolicy(readFileSync(path, "utf8"), path);
  expect([backend, resyncIntervalMs]).toEqual(["nftables", 60_000]);
  for (const cidr of ["10.0.0.0/10", "169.254.0.0/16", "fd00::/8", "fe80::/10"])
    expect(intent.untranslated).toContain(cidr);
  expect(intent.untranslated.some((cidr) => cidrContains(parseCidr(cidr), "10.99.0.7"))).toBe(false);
  expect(intent.sources).toContainEqual({
    cidr: "10.244.7.0/24",
    translation: {
      snat: { first: "203.0.113.5", last: "203.0.113.6" },
      ports: { first: 20_000, last: 29_999 },
      fullyRandom: true,
    },
  });
});

test("an empty file means ip-masq-agent's defaults", async () => {
  const { intent } = await parsePolicy("", "policy.yaml");
  expect(intent.sources).toEqual([{ cidr: "0.0.0.0/0", translation: { fullyRandom: true } }]);
  expect(intent.untranslated).toContain("192.168.0.0/16");
  expect(intent.untranslated).toContain("169.254.0.0/16");
});

test("a file of ip-masq-agent, as JSON", async () => {
  const text = `{"nonMasqueradeCIDRs": ["10.4.0.0/14"], "masqLinkLocal": true, "masqLinkLocalIPv6": true, "resyncInterval": "1m30s"}`;
  const { intent, resyncIntervalMs } = await parsePolicy(text, "config");
  expect(intent.untranslated).toEqual(["10.4.0.0/14"]);
  expect(resyncIntervalMs).toBe(90_000);
});

test("what is said for all holds where a source says nothing itself", async () => {
  const { intent } = await parsePolicy(
    "snat: 203.0.113.4\nrandomFully: false\nsources: [10.1.0.0/16, {cidr: 10.2.0.0/16, snat: 203.0.113.9, randomFully: true}, 'fd00::/64']",
    "policy.yaml",
  );
  expect(intent.sources.map(({ translation }) => translation)).toEqual([
    { snat: { first: "203.0.113.4", last: "203.0.113.4" }, fullyRandom: false },
    { snat: { first: "203.0.113.9", last: "203.0.113.9" }, fullyRandom: true },
    { fullyRandom: false },
  ]);
});

describe("refusals name the field, the position and the way out", () => {
  const cases: readonly (readonly [title: string, text: string, said: string])[] = [
    ["JSON with a key twice", '{"backend": "none",\n "backend": "none"}', "Map keys must be unique (line 2"],
    [
      "an unknown key in JSON, with a quote in it",
      '{"sources": ["10.0.0.0/8"],\n "a\\":b": 1}',
      'a":b: unknown key; known keys are sources',
    ],
    [
      "host bits in JSON",
      '{"sources": [\n "10.0.0.1/8"]}',
      'sources[0]: "10.0.0.1/8" has host bits set; did you mean 10.0.0.0/8? (line 2, column 2)',
    ],
    [
      "nested without end",
      `{"sources": ${"[".repeat(50_000)}${"]".repeat(50_000)}}`,
      "nested too deeply here (line 1",
    ],
    ["nested without end in YAML", `sources: ${"[".repeat(50_000)}`, "nested too deeply here (line 1"],
    [
      "what the node itself sends, bound to interfaces",
      "sources: [10.0.0.0/24]\nhostTraffic: true\noutInterfaces: [eth0]",
      "hostTraffic: what the node itself sends is translated by whichever interface it leaves (line 2, column 14)",
    ],
    [
      "unknown key",
      "nonMasqueradeCIDR: []",
      "nonMasqueradeCIDR: unknown key; did you mean nonMasqueradeCIDRs? (line 1, column 1)",
    ],
    ["unknown key far from any", "zzz: 1", "zzz: unknown key; known keys are sources, nonMasqueradeCIDRs"],
    [
      "unknown key of a source",
      "sources:\n  - {cidr: 10.0.0.0/24, prtRange: 1-2}",
      "sources[0].prtRange: unknown key; did you mean portRange? (line 2, column 25)",
    ],
    [
      "host bits",
      "nonMasqueradeCIDRs:\n  - 10.0.0.1/8",
      `nonMasqueradeCIDRs[0]: "10.0.0.1/8" has host bits set; did you mean 10.0.0.0/8? (line 2, column 5)`,
    ],
    ["no CIDR", "sources: [10.0.0.0/33]", 'sources[0]: "10.0.0.0/33" has no prefix length between 0 and 32'],
    ["wrong type", "masqLinkLocal: 'yes'", "masqLinkLocal: must be true or false (line 1, column 16)"],
    [
      "a text where a list stands",
      "nonMasqueradeCIDRs: 10.0.0.0/8",
      "nonMasqueradeCIDRs: must be a list of CIDRs (line 1, column 21)",
    ],
    ["a number as source", "sources: [7]", "sources[0]: must be a CIDR, or a map with the key cidr"],
    [
      "a source without network",
      "sources: [{snat: 203.0.113.5}]",
      "sources[0].cidr: is missing (line 1, column 11)",
    ],
    [
      "the other family",
      "sources:\n  - cidr: 10.0.0.0/24\n    snat: 2001:db8::1",
      "sources[0].snat: 2001:db8::1 is an IPv6 address, but the source is an IPv4 network (line 3, column 11)",
    ],
    [
      "a backward range",
      "snat: 203.0.113.9-203.0.113.5",
      "snat: the range 203.0.113.9-203.0.113.5 ends before it begins (line 1, column 7)",
    ],
    ["a backward port range", "portRange: 9-5", "portRange: the range ends before it begins"],
    ["a port beyond", "portRange: 70000", "portRange: ports are 1 to 65535"],
    [
      "twice, and different",
      "sources: [10.0.0.0/8, {cidr: 10.0.0.0/8, randomFully: false}]",
      "sources[1].cidr: 10.0.0.0/8 is listed twice with different translations",
    ],
    [
      "an interface that cannot be",
      "outInterfaces: [averyveryverylongname]",
      "outInterfaces[0]: is no interface name",
    ],
    ["a pattern of interfaces", "outInterfaces: [eth%d]", "outInterfaces[0]: is no interface name"],
    [
      "unknown backend",
      "backend: ipvs",
      "backend: must be one of nftables, iptables, ebpf, none (line 1, column 10)",
    ],
    [
      "a fast path without programs",
      "fastPath: auto",
      "fastPath: is for the backend ebpf; this policy's is nftables",
    ],
    ["no duration", "resyncInterval: soon", "resyncInterval: must be a duration, like 60s"],
    [
      "too many",
      "cidrLimit: 1\nnonMasqueradeCIDRs: [10.0.0.0/8, 192.168.0.0/16]",
      "nonMasqueradeCIDRs: holds 2 CIDRs; cidrLimit is 1",
    ],
    ["a list", "- a", "it is no map of keys and values (line 1, column 1)"],
    ["no YAML", "a: [", "(line 1, column 5)"],
    [
      "a key twice",
      "masqLinkLocal: true\nmasqLinkLocal: false",
      "Map keys must be unique (line 2, column 1)",
    ],
  ];
  for (const [title, text, said] of cases) {
    test(title, async () => {
      const error = await refusal(text);
      expect(error.said).toContain(said);
      expect([error.code, error.kind]).toEqual(["bad-policy", "usage"]);
      expect(error.details?.["problems"]).toHaveLength(1);
    });
  }
});

test("all problems are told at once", async () => {
  const error = await refusal("a: 1\nbackend: x\nsources: [10.0.0.1/8]");
  expect(error.details?.["problems"]).toHaveLength(3);
});

test("a file that is not there", () => {
  expect(readPolicy("/nonexistent/policy.yaml")).rejects.toMatchObject({
    code: "policy-unreadable",
    kind: "usage",
  });
});
