/** `wayout nat show` reads what nft and iptables made. */
import { expect } from "bun:test";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { masqueradeIntent } from "../../src/nat/intent.ts";
import type { ListedRule } from "../../src/rules/listing.ts";
import { NftablesNat } from "../../src/nat/backends/nftables/nftables.ts";
import { readNatListing } from "../../src/rules/read-listing.ts";
import { freshNamespace } from "../support/world.ts";
import { ask, testWith } from "../support/witness.ts";

const test = testWith(["root", "nft"]);

function nft(namespace: NetworkNamespace, ruleset: string): void {
  ask(namespace, ["nft", "-f", "-"], ruleset);
}

function allRules(namespace: NetworkNamespace): ListedRule[] {
  const { chains, unreached } = readNatListing(namespace);
  return [...chains.flatMap(({ rules }) => rules), ...unreached];
}

test("chains stand in the order in which packets meet them, over all families and tables", () => {
  const namespace = freshNamespace();
  nft(
    namespace,
    `table ip b { chain out { type nat hook output priority -100; }; chain post { type nat hook postrouting priority 100; }; }
     table ip6 c { chain post { type nat hook postrouting priority 90; }; chain pre { type nat hook prerouting priority -100; }; }
     table inet d { chain filter { type filter hook postrouting priority 0; }; chain in { type nat hook input priority 100; }; chain late { type nat hook postrouting priority 300; }; }
     table inet unrelated { chain forward { type filter hook forward priority 0; accept; }; }`,
  );
  const { chains } = readNatListing(namespace);
  expect(
    chains.map(({ family, table, chain, hook, priority }) => [hook, priority, family, table, chain]),
  ).toEqual([
    ["prerouting", -100, "ip6", "c", "pre"],
    ["input", 100, "inet", "d", "in"],
    ["output", -100, "ip", "b", "out"],
    ["postrouting", 90, "ip6", "c", "post"],
    ["postrouting", 100, "ip", "b", "post"],
    ["postrouting", 300, "inet", "d", "late"],
  ]);
});

test("follows jumps, gotos and verdict maps once, with text, counters and what it translates", () => {
  const namespace = freshNamespace();
  nft(
    namespace,
    `table ip t {
       chain leaf { counter packets 7 bytes 700 masquerade
       }
       chain fixed { snat to 203.0.113.5
       }
       chain post { type nat hook postrouting priority 100
         ip saddr 10.1.0.0/16 jump leaf
         ip saddr vmap { 10.2.0.0/16 : goto leaf, 10.3.0.0/16 : goto fixed, 10.4.0.1-10.4.0.9 : accept }
       }
     }`,
  );
  const rules = allRules(namespace);
  expect(rules.map(({ chain, position, depth, translates }) => [chain, position, depth, translates])).toEqual(
    [
      ["post", 1, 0, undefined],
      ["leaf", 1, 1, "masquerade"],
      ["post", 2, 0, undefined],
      ["fixed", 1, 1, "snat"],
    ],
  );
  expect(rules[0]!.text).toBe("ip saddr 10.1.0.0/16 jump leaf");
  expect(rules[1]!.counter).toEqual({ packets: 7, bytes: 700 });
  expect(rules[2]!.elements).toEqual([
    { key: "10.2.0.0/16", leadsTo: "goto leaf" },
    { key: "10.3.0.0/16", leadsTo: "goto fixed" },
    { key: "10.4.0.1-10.4.0.9", leadsTo: "accept" },
  ]);
  expect(rules.every(({ dead }) => dead === undefined)).toBe(true);
});

test("keys of several parts read as addresses, protocols and ports, with what their author says of them", () => {
  const namespace = freshNamespace();
  nft(
    namespace,
    `table ip kube-proxy {
       chain service { meta l4proto tcp dnat to 10.244.1.2:8443
       }
       map service-ips { type ipv4_addr . inet_proto . inet_service : verdict
         elements = { 10.96.0.1 . tcp . 443 comment "default/kubernetes:https" : goto service }
       }
       map ports { type inet_proto . inet_service : verdict; flags interval
         elements = { udp . 30000-32767 : accept }
       }
       chain pre { type nat hook prerouting priority dstnat
         ip daddr . meta l4proto . th dport vmap @service-ips
         meta l4proto . th dport vmap @ports
       }
     }`,
  );
  expect(allRules(namespace).flatMap(({ elements }) => elements ?? [])).toEqual([
    { key: "10.96.0.1 . tcp . 443", leadsTo: "goto service", comment: "default/kubernetes:https" },
    { key: "udp . 30000-32767", leadsTo: "accept" },
  ]);
});

test("marks what no packet can reach, and says why", () => {
  const namespace = freshNamespace();
  nft(
    namespace,
    `table ip shadowed { chain deciding { counter accept
       }
       chain maybe { tcp dport 80 accept
       }
       chain p { type nat hook postrouting priority 1
         ip saddr 10.0.0.0/8 jump maybe
         jump maybe
         log prefix "still alive"
         jump deciding
         masquerade
       }
     }
     table ip orphan { chain p { type nat hook postrouting priority 2; }
       chain lonely { ip saddr 10.0.0.0/8 masquerade
       }
       chain loner { jump lonely
       }
     }
     table ip unhooked { chain POSTROUTING { masquerade
       }
     }
     table ip elsewhere { chain postrouting { type nat hook output priority 5
         ip saddr 10.0.0.0/8 dnat to 203.0.113.5
       }
     }
     table ip filteronly { chain unused { drop
       }
     }`,
  );
  const dead = allRules(namespace)
    .filter((rule) => rule.dead !== undefined)
    .map(({ table, chain, position, dead: why }) => `${table} ${chain} ${position} ${why!.code}`);
  // Tables and chains come in whichever order the kernel keeps them.
  expect(dead).toHaveLength(5);
  expect(new Set(dead)).toEqual(
    new Set([
      "elsewhere postrouting 1 wrong-hook",
      "orphan lonely 1 unreferenced-chain",
      "orphan loner 1 unreferenced-chain",
      "shadowed p 5 shadowed",
      "unhooked POSTROUTING 1 no-base-chain",
    ]),
  );
});

test("a chain that a dead rule and a living one lead to is alive", () => {
  const namespace = freshNamespace();
  nft(
    namespace,
    `table ip t {
       chain shared { ip saddr 10.0.0.0/8 masquerade
       }
       chain early { type nat hook postrouting priority 10
         accept
         jump shared
       }
       chain late { type nat hook postrouting priority 20
         jump shared
       }
     }`,
  );
  expect(allRules(namespace).map(({ chain, position, dead }) => [chain, position, dead?.code])).toEqual([
    ["early", 1, undefined],
    ["early", 2, "shadowed"],
    ["late", 1, undefined],
    ["shared", 1, undefined],
  ]);
});

test("a dormant table's rules are dead", () => {
  const namespace = freshNamespace();
  nft(namespace, "table ip t { chain p { type nat hook postrouting priority 100; masquerade; }; }");
  nft(namespace, "table ip t { flags dormant; }");
  expect(allRules(namespace).map(({ dead }) => dead?.code)).toEqual(["dormant-table"]);
});

test("our own table names who asked for what", () => {
  const namespace = freshNamespace();
  using nat = new NftablesNat({ namespace });
  nat.apply(masqueradeIntent("cni/blue", ["10.1.0.0/16"]));
  nat.apply(masqueradeIntent("attach", ["10.2.0.0/16", "fd00::/64"]));
  const rules = allRules(namespace);
  expect(rules.every(({ owner }) => owner?.product === "wayout")).toBe(true);
  expect(rules.every(({ dead }) => dead === undefined)).toBe(true);
  const elements = rules.flatMap(({ elements }) => elements ?? []);
  expect(elements.map(({ key, leadsTo, owner, counter }) => [key, leadsTo, owner, counter?.packets])).toEqual(
    [
      ["10.1.0.0/16", "goto masquerade-random", "cni/blue", 0],
      ["10.2.0.0/16", "goto masquerade-random", "attach", 0],
      ["fd00::/64", "goto masquerade-random", "attach", 0],
    ],
  );
});

const IPTABLES = `*nat
:KUBE-POSTROUTING - [0:0]
:ORPHAN - [0:0]
-A PREROUTING -p tcp -m addrtype --dst-type LOCAL -m tcp --dport 80 -j DNAT --to-destination 10.0.0.1:80
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
-A KUBE-POSTROUTING -j ACCEPT
-A ORPHAN -s 10.0.0.0/8 -j SNAT --to-source 203.0.113.5
COMMIT
`;

for (const kind of ["iptables-nft", "iptables-legacy"] as const) {
  testWith(["root", kind])(`rules of ${kind}: as iptables-save has them, with owners and dead ones`, () => {
    const namespace = freshNamespace();
    ask(namespace, [`${kind}-restore`], IPTABLES);
    const rules = allRules(namespace);
    expect(rules.every((rule) => rule.kind === kind)).toBe(true);
    expect(
      rules.map(({ chain, text, translates, owner, dead }) => [
        chain,
        text,
        translates,
        owner?.product,
        dead?.code,
      ]),
    ).toEqual([
      [
        "PREROUTING",
        "-p tcp -m addrtype --dst-type LOCAL -m tcp --dport 80 -j DNAT --to-destination 10.0.0.1:80",
        "dnat",
        undefined,
        undefined,
      ],
      [
        "POSTROUTING",
        '-m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING',
        undefined,
        "kube-proxy",
        undefined,
      ],
      ["KUBE-POSTROUTING", "-m mark ! --mark 0x4000/0x4000 -j RETURN", undefined, "kube-proxy", undefined],
      ["KUBE-POSTROUTING", "-j MASQUERADE --random-fully", "masquerade", "kube-proxy", undefined],
      ["KUBE-POSTROUTING", "-j ACCEPT", undefined, "kube-proxy", "shadowed"],
      ["POSTROUTING", "-s 172.17.0.0/16 ! -o docker0 -j MASQUERADE", "masquerade", "Docker", undefined],
      ["ORPHAN", "-s 10.0.0.0/8 -j SNAT --to-source 203.0.113.5", "snat", undefined, "unreferenced-chain"],
    ]);
  });
}

testWith(["root", "iptables-nft", "iptables-legacy"])(
  "both kinds of iptables at once, and nftables between them",
  () => {
    const namespace = freshNamespace();
    const rule = ["-t", "nat", "-A", "POSTROUTING", "-s", "10.0.0.0/8", "-j", "MASQUERADE"];
    ask(namespace, ["iptables-legacy", ...rule]);
    ask(namespace, ["iptables-nft", ...rule]);
    ask(namespace, [
      "ip6tables-legacy",
      "-t",
      "nat",
      "-A",
      "POSTROUTING",
      "-s",
      "fd00::/8",
      "-j",
      "MASQUERADE",
    ]);
    using nat = new NftablesNat({ namespace });
    nat.apply(masqueradeIntent("attach", ["10.1.0.0/16"]));
    const postrouting = readNatListing(namespace).chains.filter(({ hook }) => hook === "postrouting");
    expect(postrouting.map(({ kind, family, priority }) => [priority, kind, family])).toEqual([
      [95, "nftables", "inet"],
      [100, "iptables-nft", "ip"],
      [100, "iptables-legacy", "ip"],
      [100, "iptables-legacy", "ip6"],
    ]);
  },
);

test("a chain that hangs below several base chains is listed below each, and once there", () => {
  const namespace = freshNamespace();
  nft(
    namespace,
    `table ip nat {
       chain KUBE-SEP { meta l4proto tcp dnat to 10.244.1.5:8080
       }
       chain KUBE-SVC { jump KUBE-SEP
       }
       chain KUBE-SERVICES { ip daddr 10.96.0.10 jump KUBE-SVC
         ip daddr 10.96.0.11 jump KUBE-SVC
       }
       chain PREROUTING { type nat hook prerouting priority -100
         jump KUBE-SERVICES
       }
       chain OUTPUT { type nat hook output priority -100
         jump KUBE-SERVICES
       }
     }`,
  );
  const { chains, unreached } = readNatListing(namespace);
  const below = ["KUBE-SERVICES", "KUBE-SVC", "KUBE-SEP", "KUBE-SERVICES"];
  expect(chains.map(({ chain, rules }) => [chain, rules.map((one) => one.chain)])).toEqual([
    ["PREROUTING", ["PREROUTING", ...below]],
    ["OUTPUT", ["OUTPUT", ...below]],
  ]);
  expect(unreached).toEqual([]);
});
