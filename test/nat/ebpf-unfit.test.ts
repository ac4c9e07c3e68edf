/** Where the programs would break what others' rules achieve, they are refused, by the rule's name; or stand where they do not. */
import { expect } from "bun:test";
import { EbpfNat } from "../../src/nat/backends/ebpf/ebpf.ts";
import { masqueradeIntent } from "../../src/nat/intent.ts";
import { writeSysctl } from "../../src/kernel/sysctl.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, testWith } from "../support/witness.ts";
import { NODE, OUTSIDE, rulesWithHandles, UPLINK, world } from "./three-namespaces.ts";

const test = testWith(["root", "real-root", "ip", "nft", "curl"]);
const INTENT = masqueradeIntent("cni/blue", ["10.9.0.0/16", "fd00:9::/64"]);

function opened() {
  const three = world();
  const nat = new EbpfNat({ namespace: three.node });
  afterThisTest(() => {
    nat.remove();
    nat[Symbol.dispose]();
  });
  const nft = (text: string): void => void ask(three.node, ["nft", "-f", "-"], text);
  return { ...three, nat, nft };
}

const early = (rules: string, sets = ""): string =>
  `table inet early { ${sets} chain c { ${rules}; }\n chain pre { type filter hook prerouting priority raw; jump c; }; }`;

/** What stands in prerouting, and who is named; the rule stands there as nft prints it. */
const REFUSED: Readonly<Record<string, { rules: string; names: string; owner?: string }>> = {
  "as Docker 28 keeps direct access out": {
    rules: `table ip raw { chain PREROUTING { type filter hook prerouting priority raw; ip daddr 10.9.0.2 iifname != "docker0" counter drop; }; }`,
    names: "10.9.0.2",
    owner: "Docker",
  },
  "a list of bogons at the uplink": {
    rules: early(
      `iifname "${UPLINK}" ip daddr @bogons drop`,
      "set bogons { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 192.168.0.0/16 }; };",
    ),
    names: "ip daddr @bogons drop",
  },
  "a map of verdicts, IPv6": {
    rules: early("ip6 daddr vmap { fc00::/7 : drop }"),
    names: "ip6 daddr vmap",
  },
  "only the node's own address is let in": {
    rules: early(`iif != lo ip daddr != { ${NODE.v4}, 10.9.0.1 } reject`).replace("reject", "drop"),
    names: "ip daddr != {",
  },
  "what is not local": {
    rules: early(`iifname "${UPLINK}" fib daddr type != local drop`),
    names: "fib daddr type",
  },
  "behind a rule about something else that may match": {
    rules: early(
      "meta mark 7 drop; tcp dport 80-90000 drop; ip daddr 10.9.1.0/24 drop".replace("90000", "60000"),
    ),
    names: "ip daddr 10.9.1.0/24 drop",
  },
  "at the ingress of the link": {
    rules: `table netdev early { chain in { type filter hook ingress device "${UPLINK}" priority 0; ip daddr 10.0.0.0/8 drop; }; }`,
    names: "table netdev early, chain in",
  },
  "tracked is accepted, but tracking comes later": {
    rules: early("ct state established accept; ip daddr 10.0.0.0/8 drop"),
    names: "ip daddr 10.0.0.0/8 drop",
  },
};

for (const [what, { rules, names, owner }] of Object.entries(REFUSED)) {
  test(`refused: ${what}`, () => {
    const { node, nat, nft } = opened();
    nft(rules);
    const before = rulesWithHandles(node);
    expect(() => nat.apply(INTENT)).toThrow(names);
    expect(() => nat.apply(INTENT)).toThrow(`its owner: ${owner ?? "unknown"}`);
    expect(rulesWithHandles(node)).toBe(before);
    expect(nat.intents()).toEqual([]);
    // Without the rule there is nothing against it.
    ask(node, ["nft", "flush", "ruleset"]);
    expect(nat.apply(INTENT).changed).toBe(true);
  });
}

/** The same by iptables, of either kind: words behind `-t raw -A PREROUTING`, sets before them. */
const BY_IPTABLES: Readonly<
  Record<string, { sets?: string; rules: readonly string[]; names: string | undefined; isIpv6?: true }>
> = {
  "a pod's address": {
    rules: ["-t raw -A PREROUTING -d 10.9.0.2/32 ! -i docker0 -j DROP"],
    names: "-d 10.9.0.2/32 ! -i docker0 -j DROP",
  },
  "in a chain of somebody's own, in mangle": {
    rules: [
      "-t mangle -N BOGONS",
      "-t mangle -A PREROUTING -i wan0 -j BOGONS",
      "-t mangle -A BOGONS -d 10.0.0.0/8 -j DROP",
    ],
    names: "chain BOGONS: -d 10.0.0.0/8 -j DROP",
  },
  "a set of destinations": {
    sets: "create bogons hash:net\nadd bogons 10.0.0.0/8\nadd bogons 192.168.0.0/16",
    rules: ["-t raw -A PREROUTING -i wan0 -m set --match-set bogons dst -j DROP"],
    names: "--match-set bogons dst -j DROP",
  },
  "a list of sets, one of which has one pod and a port": {
    sets: "create one hash:ip,port\nadd one 10.9.1.77,tcp:80\ncreate all list:set\nadd all one",
    rules: ["-t raw -A PREROUTING -m set --match-set all dst,src -j DROP"],
    names: "--match-set all dst,src -j DROP",
  },
  "what is not in a set": {
    sets: "create own hash:ip\nadd own 203.0.113.5\nadd own 10.9.0.1",
    rules: ["-t raw -A PREROUTING -i wan0 -m set ! --match-set own dst -j DROP"],
    names: "! --match-set own dst -j DROP",
  },
  "a range": {
    rules: ["-t raw -A PREROUTING -m iprange --dst-range 10.9.3.7-10.9.3.9 -j DROP"],
    names: "--dst-range 10.9.3.7-10.9.3.9 -j DROP",
  },
  "what is not local": {
    rules: ["-t raw -A PREROUTING -i wan0 -m addrtype ! --dst-type LOCAL -j DROP"],
    names: "-m addrtype ! --dst-type LOCAL -j DROP",
  },
  IPv6: {
    sets: "create six hash:net family inet6\nadd six fc00::/7",
    rules: ["-t raw -A PREROUTING -m set --match-set six dst -j DROP"],
    names: "--match-set six dst -j DROP",
    isIpv6: true,
  },
  "a set that has no pod": {
    sets: "create bogons hash:net\nadd bogons 10.0.0.0/8\nadd bogons 10.9.0.0/16 nomatch",
    rules: ["-t raw -A PREROUTING -i wan0 -m set --match-set bogons dst -j DROP"],
    names: undefined,
  },
  "a set of sources": {
    sets: "create bogons hash:net\nadd bogons 10.0.0.0/8",
    rules: ["-t raw -A PREROUTING -i wan0 -m set --match-set bogons src -j DROP"],
    names: undefined,
  },
  "tracked answers are accepted before": {
    rules: [
      "-t mangle -A PREROUTING -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
      "-t mangle -A PREROUTING -d 10.0.0.0/8 -j DROP",
    ],
    names: undefined,
  },
};

for (const kind of ["legacy", "nft"])
  testWith(["root", "real-root", "ip", "nft", "curl", "iptables", "ipset"])(
    `by iptables-${kind}: refused, or let where it makes no difference`,
    async () => {
      for (const [what, { sets, rules, names, isIpv6 }] of Object.entries(BY_IPTABLES)) {
        const { node, nat, fetch } = opened();
        if (sets !== undefined) ask(node, ["ipset", "restore"], `${sets}\n`);
        for (const rule of rules)
          ask(node, [`${isIpv6 === true ? "ip6tables" : "iptables"}-${kind}`, ...rule.split(" ")]);
        if (names === undefined) {
          nat.apply(INTENT);
          expect([what, (await fetch(OUTSIDE.v4)).address]).toEqual([what, NODE.v4]);
        } else {
          expect(() => nat.apply(INTENT), what).toThrow(names);
          expect(nat.intents()).toEqual([]);
        }
      }
    },
  );

/** Rules that make no difference: they see the pod's address with every backend, or are not asked about answers. */
const LET: Readonly<Record<string, string>> = {
  "behind the place where answers are translated back": early("ip daddr 10.0.0.0/8 drop").replace(
    "priority raw",
    "priority filter",
  ),
  "at another link": early(`iifname "pods" ip daddr 10.0.0.0/8 drop`),
  "by the sender": early("ip saddr 192.0.2.0/24 drop; fib saddr . iif oif missing drop"),
  "another destination": early("ip daddr 172.17.0.2 drop"),
  "established connections are accepted": early(
    "ct state established accept; ip daddr 10.0.0.0/8 drop",
  ).replace("priority raw", "priority mangle"),
  "the answers are accepted before": early(`iifname "${UPLINK}" accept; ip daddr 10.0.0.0/8 drop`),
};

test("not refused: what makes no difference; and the answers arrive", async () => {
  for (const [what, rules] of Object.entries(LET)) {
    const { nat, nft, fetch } = opened();
    nft(rules);
    nat.apply(INTENT);
    if (what.startsWith("behind")) continue;
    expect([what, (await fetch(OUTSIDE.v4)).address]).toEqual([what, NODE.v4]);
  }
});

test("an IPsec policy for an address that pods leave as is named by its selector", () => {
  const { node, nat } = opened();
  const policy = (...selector: string[]): void =>
    void ask(node, [
      "ip",
      "xfrm",
      "policy",
      "add",
      ...selector,
      "dir",
      "out",
      "priority",
      "77",
      "tmpl",
      "src",
      NODE.v4,
      "dst",
      "203.0.113.1",
      "proto",
      "esp",
      "mode",
      "tunnel",
    ]);
  // Pods by their own address: transformed before our programs see them.
  policy("src", "10.9.0.0/16", "dst", "192.0.2.0/24");
  nat.apply(INTENT);
  nat.remove();
  policy("src", "203.0.113.0/24", "dst", "192.0.2.0/25");
  expect(() => nat.apply(INTENT)).toThrow(
    "src 203.0.113.0/24 dst 192.0.2.0/25 dir out priority 77 (transform)",
  );
  expect(nat.intents()).toEqual([]);
  // Where pods keep their addresses to there, it is asked.
  nat.apply({ ...INTENT, untranslated: ["192.0.2.0/24"] });
  nat.remove();
  ask(node, ["ip", "xfrm", "policy", "flush"]);
  ask(node, [
    "ip",
    "xfrm",
    "policy",
    "add",
    "src",
    "::/0",
    "dst",
    "2001:db8:7::/48",
    "dir",
    "out",
    "action",
    "block",
  ]);
  expect(() => nat.apply(INTENT)).toThrow("src ::/0 dst 2001:db8:7::/48");
});

test("an uplink that is a bridge with br_netfilter is hooked at its ports", async () => {
  const { node, nat, fetch, connect, nft } = opened();
  ask(
    node,
    ["ip", "-batch", "-"],
    [
      "link add br7 type bridge",
      `link set br7 address 02:00:00:00:07:07`,
      `link set ${UPLINK} master br7`,
      `address flush dev ${UPLINK}`,
      "link set br7 up",
      `address add ${NODE.v4}/24 dev br7`,
      "route replace default via 203.0.113.1",
    ].join("\n"),
  );
  const filters = (value: string): void => {
    for (const what of ["iptables", "ip6tables"])
      writeSysctl(node, `net.bridge.bridge-nf-call-${what}`, value);
  };
  // Answers of connections only: tracking has to see the pod's own address, at the bridge already.
  nft(
    "table inet f { chain f { type filter hook forward priority 0; policy drop; ct state established accept; iifname pods accept; }; }",
  );
  filters("0");
  nat.apply(INTENT);
  expect((await fetch(OUTSIDE.v4)).address).toBe(NODE.v4);
  filters("1");
  expect(await connect(OUTSIDE.v4, 8080, true)).toBe(28);
  expect(nat.verify(INTENT).map(({ object }) => object)).toContain(
    `the eBPF program at the ingress of ${UPLINK}`,
  );
  nat.apply(INTENT);
  expect(nat.verify(INTENT)).toEqual([]);
  expect((await fetch(OUTSIDE.v4)).address).toBe(NODE.v4);
  // And back again.
  filters("0");
  expect(nat.verify(INTENT).map(({ expected }) => expected)).toContain("missing");
  nat.apply(INTENT);
  expect((await fetch(OUTSIDE.v4)).address).toBe(NODE.v4);
});
