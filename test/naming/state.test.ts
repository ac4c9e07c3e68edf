/** Formats that other versions wrote, or will read (docs/state.md): each as it stood, read and written again. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { nodeRecord } from "../../src/attachment/record.ts";
import { ownerText, parseOwner } from "../../src/ipam/owner-file.ts";
import { readSaved, intentsOf, rulesetOf } from "../../src/nat/backends/iptables/ruleset.ts";
import { claimsOf, intentsOfClaims } from "../../src/nat/claim.ts";
import { readWants, wantsText } from "../../src/nat/network-wants.ts";
import { removedText } from "../../src/nat/removed.ts";

const CLAIMS = [
  "attach/br0 source 10.88.0.0/24 masquerade fully-random",
  "attach/br0 untranslated 10.88.0.0/24",
  "cni/blue source 10.42.0.0/24 masquerade ports 32768-60999",
  "cni/blue in 10.42.0.0/24 cni0",
  "cni/blue source fd00:42::/64 snat 2001:db8::7-2001:db8::9 fully-random",
  "cni/blue in fd00:42::/64 cni0",
  "cni/blue untranslated 10.42.0.0/24",
  "policy source 10.0.0.0/8 snat 203.0.113.5 ports 1024-2047",
  "policy out 10.0.0.0/8 eth0",
  "policy untranslated 192.168.0.0/16",
];

test("claims", () => {
  const intents = intentsOfClaims(CLAIMS);
  expect(intents.map(({ owner }) => owner)).toEqual(["attach/br0", "cni/blue", "policy"]);
  expect(intents.flatMap(claimsOf)).toEqual(CLAIMS);
  // Of a later version; and what others write.
  expect(intentsOfClaims([...CLAIMS, "cni/blue colour 10.42.0.0/24 red", "a comment"])).toEqual(intents);
});

test("rules of iptables, whose comments are the claims", () => {
  const text = `*nat
:WAYOUT-POSTROUTING - [0:0]
:WAYOUT-5485791fd847ae4a - [0:0]
-A POSTROUTING -m comment --comment "wayout: a way out for namespaces and pods" -j WAYOUT-POSTROUTING
-A WAYOUT-POSTROUTING -o lo -j RETURN
-A WAYOUT-POSTROUTING -d 224.0.0.0/4 -j RETURN
-A WAYOUT-POSTROUTING -d 255.255.255.255/32 -j RETURN
-A WAYOUT-POSTROUTING -s 10.42.0.0/24 -i cni0 -m comment --comment cni/blue -g WAYOUT-5485791fd847ae4a
-A WAYOUT-5485791fd847ae4a -d 10.42.0.0/24 -m comment --comment "cni/blue untranslated 10.42.0.0/24" -j RETURN
-A WAYOUT-5485791fd847ae4a -s 10.42.0.0/24 -i cni0 -m comment --comment "cni/blue source 10.42.0.0/24 masquerade fully-random" -j MASQUERADE --random-fully
COMMIT
`;
  const saved = readSaved(text);
  const [intent] = intentsOf(saved);
  expect(claimsOf(intent!)).toEqual([
    "cni/blue source 10.42.0.0/24 masquerade fully-random",
    "cni/blue in 10.42.0.0/24 cni0",
    "cni/blue untranslated 10.42.0.0/24",
  ]);
  expect(saved.jumps).toBe(1);
  expect([...rulesetOf([intent!], 4)]).toEqual([...saved.chains]);
});

test("findings", () => {
  const text = '["cni","blue",[[4,{"fullyRandom":true}]],["192.0.2.0/24"],["10.42.0.0/24"],["cni0"]]';
  expect(wantsText(readWants(text)!)).toBe(text);
  const other = text.replace(/\]$/, ',"iptables"]');
  expect(wantsText(readWants(other)!)).toBe(other);
  // Before networks had interfaces.
  expect(readWants('["cni","blue",[],[],["10.42.0.0/24"]]')).toMatchObject({
    subnets: ["10.42.0.0/24"],
    from: [],
    backend: "nftables",
  });
  expect(removedText("cni/blue")).toBe('["removed","cni/blue"]');
});

test("records of attachments, version 1", () => {
  const record = {
    version: 1,
    networks: [
      {
        bridge: "br0",
        gateways: ["10.88.0.1/24"],
        addedGateways: ["10.88.0.1/24"],
        subnets: ["10.88.0.0/24"],
        backend: "nftables",
        before: { up: true, acceptRa: "1" },
        lastGiven: { "10.88.0.0/24": "10.88.0.2" },
      },
    ],
    attachments: [
      {
        label: "blue",
        path: "/run/netns/blue",
        cookie: "4711",
        created: true,
        madeDirectory: false,
        phase: "attached",
        bridge: "br0",
        interface: "eth0",
        hostInterface: "woutaax4yf7spcd",
        addresses: ["10.88.0.2/24"],
        snat: ["203.0.113.7"],
        raisedLoopback: true,
        resolver: {
          path: "/etc/netns/blue/resolv.conf",
          text: "nameserver 192.0.2.53\n",
          madeDirectories: [],
        },
        since: "2026-01-02T03:04:05Z",
      },
    ],
    settings: [{ name: "net.ipv4.ip_forward", before: "0", after: "1" }],
  };
  expect(v.parse(nodeRecord, record)).toEqual(record as never);
});

test("host-local's files", () => {
  const owner = { container: "c0ffee", interfaceName: "eth0" };
  expect(ownerText(owner)).toBe("c0ffee\r\neth0");
  expect(parseOwner("c0ffee\r\neth0")).toEqual(owner);
  expect(parseOwner("c0ffee")).toEqual({ container: "c0ffee", interfaceName: "" });
});

test("every code of a problem stands in the list of findings or in docs/state.md", () => {
  const root = join(import.meta.dir, "..", "..");
  const read = (...path: string[]): string => readFileSync(join(root, ...path), "utf8");
  const source = read("src", "ways-out", "problem.ts");
  const type = source.slice(
    source.indexOf("export type ProblemCode"),
    source.indexOf("export interface Problem"),
  );
  const codes = [...type.matchAll(/\| "([a-z-]+)"/g)].map(([, code]) => code!);
  expect(codes.length).toBeGreaterThan(20);
  const explained = `${read("docs", "findings.md")}\n${read("docs", "state.md")}`;
  const isExplained = (code: string): boolean => new RegExp(`^(### |\\| )\`${code}\``, "m").test(explained);
  expect(codes.filter((code) => !isExplained(code))).toEqual([]);
});
