import { expect, test } from "bun:test";
import { adviceOn, sharedWith } from "../../src/policy/advice.ts";
import { masqueradeIntent, normalizeIntent, type NatIntent } from "../../src/nat/intent.ts";
import { ownerName } from "../../src/naming/names.ts";

const NODE = { addresses: new Set(["203.0.113.5"]), interfaces: new Set(["lo", "eth0"]) };

function snat(first: string, last: string, outInterfaces?: readonly string[]): NatIntent {
  const source = { cidr: "10.9.0.0/24", translation: { snat: { first, last }, fullyRandom: true } };
  return {
    owner: "policy",
    sources: [{ ...source, ...(outInterfaces === undefined ? {} : { outInterfaces }) }],
    untranslated: [],
  };
}

test("nothing to say of what is sound", () => {
  expect(adviceOn(snat("203.0.113.5", "203.0.113.5", ["eth0"]), [], NODE)).toEqual([]);
  expect(
    adviceOn(masqueradeIntent("policy", ["10.0.0.0/8"]), [masqueradeIntent("cni/a", ["10.9.0.0/24"])], NODE),
  ).toEqual([]);
});

test("an address that the node does not have", () => {
  expect(adviceOn(snat("203.0.113.5", "203.0.113.7"), [], NODE)).toEqual([
    "203.0.113.6 and 1 more is no address of this node: answers come back only if the network outside routes it here",
  ]);
});

test("a range of ports that is soon used up", () => {
  const narrow = (cidr: string, first: number, last: number) => ({
    cidr,
    translation: { ports: { first, last }, fullyRandom: true },
  });
  const sources = [narrow("10.9.0.0/24", 5000, 5001), narrow("10.9.1.0/24", 5000, 5001)];
  const intent = { owner: "policy", sources, untranslated: [] };
  expect(adviceOn(intent, [], NODE)).toEqual([
    "10.9.0.0/24 and 1 more may use ports 5000-5001, 2 in all: no more connections than that to one destination at once",
  ]);
  expect(adviceOn({ ...intent, sources: [narrow("10.9.0.0/24", 1024, 2047)] }, [], NODE)).toEqual([]);
});

test("an interface that is not there", () => {
  expect(adviceOn(snat("203.0.113.5", "203.0.113.5", ["eth0", "wan9"]), [], NODE)[0]).toContain(
    "no interface wan9",
  );
});

test("a source that others decide about", () => {
  const others = [masqueradeIntent("cni/a", ["10.9.0.0/25"]), masqueradeIntent("cni/b", ["10.9.0.128/25"])];
  const [said, ...rest] = adviceOn(masqueradeIntent("policy", ["10.9.0.0/24"]), others, NODE);
  expect(rest).toEqual([]);
  expect(said).toContain("the policy's entry for 10.9.0.0/24 has no effect: cni/a, cni/b");
  // Equal prefixes: the owner who sorts first.
  expect(
    adviceOn(masqueradeIntent("zzz", ["10.9.0.0/24"]), [masqueradeIntent("a", ["10.9.0.0/24"])], NODE),
  ).toHaveLength(1);
  expect(
    adviceOn(masqueradeIntent("a", ["10.9.0.0/24"]), [masqueradeIntent("zzz", ["10.9.0.0/24"])], NODE),
  ).toEqual([]);
});

test("owners of long names stay apart, and are valid", () => {
  const names = [`${"n".repeat(200)}a`, `${"n".repeat(200)}b`].map((name) => ownerName("cni", name));
  expect(new Set(names).size).toBe(2);
  for (const owner of names)
    expect(normalizeIntent({ owner, sources: [], untranslated: [] }).owner).toBe(owner);
  expect(ownerName("cni", "blue")).toBe("cni/blue");
});

test("owners beside whom the policy holds, with what it adds", () => {
  const policy = masqueradeIntent("policy", ["10.0.0.0/8"], {
    untranslated: ["198.51.100.0/24", "fc00::/7"],
  });
  const inside = masqueradeIntent("cni/a", ["10.9.0.0/24", "fd00:9::/64"]);
  expect(sharedWith(policy, [policy, inside, masqueradeIntent("cni/b", ["192.168.7.0/24"])])).toEqual([
    { owner: "cni/a", cidrs: ["10.9.0.0/24"], untranslated: ["10.0.0.0/8", "198.51.100.0/24"] },
  ]);
  expect(sharedWith(policy, [inside], "iptables")).toMatchObject([{ elsewhere: "iptables" }]);
  // Who leaves as much untranslated by itself hears nothing new.
  const same = masqueradeIntent("cni/a", ["10.9.0.0/24"], { untranslated: ["0.0.0.0/0"] });
  expect(sharedWith(policy, [same])).toEqual([]);
});
