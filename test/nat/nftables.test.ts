import { describe, expect, test as unit } from "bun:test";
import { join } from "node:path";
import { masqueradeIntent, normalizeIntent, type NatIntent } from "../../src/nat/intent.ts";
import { ERRNO, SystemError } from "../../src/linux/errno.ts";
import {
  NETLINK_NETFILTER,
  openTransport,
  type NetlinkTransport,
} from "../../src/kernel/netlink/transport.ts";
import { NftablesNat } from "../../src/nat/backends/nftables/nftables.ts";
import { tableOf } from "../../src/nat/backends/nftables/ruleset.ts";
import { readNatListing } from "../../src/rules/read-listing.ts";
import { freshNamespace } from "../support/world.ts";
import { ask, testWith } from "../support/witness.ts";
import { backendSuite } from "./backend-suite.ts";
import { OUTSIDE, UPLINK, world } from "./three-namespaces.ts";

const test = testWith(["root", "nft"]);

backendSuite({
  title: "nftables",
  needs: [],
  open: (namespace) => new NftablesNat({ namespace }),
  translates: true,
  trace: "wayout",
  damage: {
    "the ruleset was flushed": "nft flush ruleset",
    "the table was deleted": "nft delete table inet wayout",
    "the table's rules were flushed": "nft flush table inet wayout",
    "the table sleeps": "nft add table inet wayout '{ flags dormant; }'",
    "a chain was emptied": "nft flush chain inet wayout masquerade-3000-3999",
    "the base chain is gone":
      "nft flush chain inet wayout postrouting; nft delete chain inet wayout postrouting",
    "the chain is hooked elsewhere":
      "nft flush chain inet wayout postrouting; nft delete chain inet wayout postrouting; nft add chain inet wayout postrouting '{ type nat hook output priority 95; }'",
    "somebody put a rule into our chain": "nft insert rule inet wayout postrouting accept",
    "an exclusion is gone": "nft delete element inet wayout untranslated4 { 10.0.0.0/8 }",
    "a source is gone": "nft delete element inet wayout egress4 { 10.9.0.0/24 }",
    "all sources are gone": "nft flush map inet wayout egress6",
    "a fixed address is another":
      "nft delete element inet wayout snat4 { 10.9.1.0/24 }; nft add element inet wayout snat4 { 10.9.1.0/24 : 203.0.113.8-203.0.113.8 }",
    "the claims are gone": "nft flush set inet wayout claims",
    "there is a set too many": "nft add set inet wayout stranger '{ type mark; }'",
  },
});

describe("the table", () => {
  const ruleCount = (intents: readonly NatIntent[]): number =>
    tableOf(intents.map(normalizeIntent)).chains.reduce((sum, { rules }) => sum + rules.length, 0);
  const network = (index: number): NatIntent =>
    masqueradeIntent(`cni/net${index}`, [`10.${index}.0.0/16`, `fd00:${index}::/64`]);

  unit("has as many rules for a thousand sources and a hundred networks as for one", () => {
    const scattered = Array.from({ length: 1000 }, (_, index) => ({
      cidr: `10.0.${index >> 5}.${(index & 31) * 4}/32`,
      translation: { snat: { first: `203.0.113.${index % 250}`, last: "203.0.113.255" }, fullyRandom: true },
    }));
    const one = { owner: "policy", sources: scattered.slice(0, 1), untranslated: ["10.0.0.0/8"] };
    expect(ruleCount([{ ...one, sources: scattered }])).toBe(ruleCount([one]));
    const hundred = Array.from({ length: 100 }, (_, index) => network(index));
    expect(ruleCount(hundred)).toBe(ruleCount(hundred.slice(0, 1)));
    expect(ruleCount([...hundred, one])).toBe(ruleCount([network(1), one]));
  });

  unit("does not hold an exclusion for every source", () => {
    const sources = Array.from({ length: 1000 }, (_, index) => ({
      cidr: `10.0.${index >> 5}.${(index & 31) * 4}/32`,
      translation: { fullyRandom: true },
    }));
    const { sets } = tableOf([normalizeIntent({ owner: "policy", sources, untranslated: ["10.0.0.0/8"] })]);
    const size = (name: string): number | undefined =>
      sets.find(({ spec }) => spec.set === name)?.elements.length;
    expect(size("egress4")).toBe(1000);
    // 10.0.0.0/8, multicast, limited broadcast.
    expect(size("untranslated4")).toBe(3);
  });

  unit(
    "names sources beside destinations only where they differ: the kernel is slow to fill a set of pairs",
    () => {
      const typeOf = (...intents: NatIntent[]): string | undefined =>
        tableOf(intents.map(normalizeIntent)).sets.find(({ spec }) => spec.set === "untranslated4")?.spec
          .type;
      const policy = { ...network(1), owner: "policy" };
      expect(typeOf(policy)).toBe("ipv4_addr");
      expect(typeOf(policy, network(2))).toBe("ipv4_addr . ipv4_addr");
    },
  );

  test("what apply found in order, the next apply does not read", () => {
    const namespace = freshNamespace();
    const transport = openTransport(NETLINK_NETFILTER, { namespace });
    let questions = 0;
    using nat = new NftablesNat({
      namespace,
      transport: {
        send(datagram) {
          questions++;
          transport.send(datagram);
        },
        receive: (timeoutMs) => transport.receive(timeoutMs),
        join: (group) => transport.join(group),
        close: () => transport.close(),
      },
    });
    expect(nat.apply(network(1)).changed).toBe(true);
    expect(nat.apply(network(1)).changed).toBe(false);
    questions = 0;
    expect(nat.apply(network(1)).changed).toBe(false);
    expect(questions).toBe(1);
    ask(namespace, ["nft", "flush", "table", "inet", "wayout"]);
    expect(nat.apply(network(1)).changed).toBe(true);
  });

  test("is listed as described, and nft takes the listing back", () => {
    const namespace = freshNamespace();
    using nat = new NftablesNat({ namespace });
    const intent: NatIntent = {
      owner: "policy",
      sources: [
        {
          cidr: "10.1.0.0/16",
          translation: { snat: { first: "203.0.113.5", last: "203.0.113.9" }, fullyRandom: true },
        },
        {
          cidr: "10.2.0.0/16",
          translation: { ports: { first: 1024, last: 2047 }, fullyRandom: false },
          outInterfaces: ["eth0"],
        },
        // nft 1.0.6 cannot read a map of IPv6 addresses with ports back, not even its own.
        {
          cidr: "fd00::/64",
          translation: { snat: { first: "2001:db8::5", last: "2001:db8::6" }, fullyRandom: true },
        },
        {
          cidr: "10.3.0.0/16",
          translation: {
            snat: { first: "203.0.113.7", last: "203.0.113.8" },
            ports: { first: 1, last: 99 },
            fullyRandom: true,
          },
        },
      ],
      untranslated: ["10.0.0.0/8"],
    };
    const described = nat.describe(intent);
    expect(nat.apply(intent).changed).toBe(true);
    const list = (): string => ask(namespace, ["nft", "list", "ruleset"]);
    const counters = / packets \d+ bytes \d+/g;
    const listed = list();
    expect(described.replace(counters, "")).toBe(listed.replace(counters, ""));
    ask(namespace, ["nft", "flush", "ruleset"]);
    ask(namespace, ["nft", "-f", "-"], listed);
    expect(nat.verify(intent)).toEqual([]);
    ask(namespace, ["nft", "flush", "ruleset"]);
    ask(namespace, ["nft", "-f", "-"], described);
    expect(nat.verify(intent)).toEqual([]);
  });

  test("beside another product's chain: our fixed address wins, what we leave alone is theirs", async () => {
    const { node, fetch } = world();
    ask(
      node,
      ["nft", "-f", "-"],
      `table ip theirs { chain p { type nat hook postrouting priority srcnat; oifname ${UPLINK} snat to 203.0.113.9; }; }`,
    );
    using nat = new NftablesNat({ namespace: node });
    const translation = { snat: { first: "203.0.113.7", last: "203.0.113.7" }, fullyRandom: false };
    const ours: NatIntent = {
      owner: "policy",
      sources: [{ cidr: "10.9.0.0/24", translation }],
      untranslated: [],
    };
    expect((await fetch(OUTSIDE.v4)).address).toBe("203.0.113.9");
    nat.apply(ours);
    expect((await fetch(OUTSIDE.v4)).address).toBe("203.0.113.7");
    // A return ends our base chain only: so portmap and kube-proxy translate what they marked.
    nat.apply({ ...ours, untranslated: ["198.51.100.0/24"] });
    expect((await fetch(OUTSIDE.v4)).address).toBe("203.0.113.9");
  });

  test("counters go on when another owner comes and goes", async () => {
    const { node, fetch } = world();
    using nat = new NftablesNat({ namespace: node });
    nat.apply(masqueradeIntent("cni/blue", ["10.9.0.0/24"]));
    for (let count = 0; count < 3; count++) await fetch(OUTSIDE.v4);
    const packets = (): unknown[] =>
      readNatListing(node)
        .chains.flatMap(({ rules }) => rules)
        .flatMap(({ counter, elements }) => [counter, ...(elements ?? []).map((element) => element.counter)])
        .flatMap((counter) => counter?.packets ?? []);
    expect(packets()).toEqual([3, 3]);
    nat.apply(masqueradeIntent("cni/red", ["10.77.0.0/24"]));
    expect(packets()).toEqual([3, 0, 3]);
    nat.remove("cni/red");
    expect(packets()).toEqual([3, 3]);
  });

  test("what the kernel refuses is told with a way out", () => {
    const refusing = (code: keyof typeof ERRNO): NetlinkTransport => ({
      send() {
        throw new SystemError("send", ERRNO[code]);
      },
      receive: () => undefined,
      join() {},
      close() {},
    });
    for (const [errno, code, kind] of [
      ["EPERM", "no-privilege", "machine"],
      ["EINVAL", "no-nftables", "machine"],
      ["EOPNOTSUPP", "no-nftables", "machine"],
      ["ENOBUFS", "nat-refused", "broken"],
    ] as const) {
      using nat = new NftablesNat({ transport: refusing(errno) });
      for (const call of [
        () => nat.apply(network(1)),
        () => nat.verify(network(1)),
        () => nat.remove(),
        () => nat.intents(),
      ]) {
        let thrown: unknown;
        try {
          call();
        } catch (error) {
          thrown = error;
        }
        expect(thrown).toMatchObject({ name: "WayoutError", code, kind });
      }
    }
  });

  test("two at once both stand", async () => {
    const namespace = freshNamespace();
    const script = `import { ERRNO, SystemError } from "../../src/linux/errno.ts";
import type { NetlinkTransport } from "../../src/kernel/netlink/transport.ts";
import { NftablesNat } from ${JSON.stringify(join(import.meta.dir, "../../src/nat/backends/nftables/nftables.ts"))};
      import { masqueradeIntent } from ${JSON.stringify(join(import.meta.dir, "../../src/nat/intent.ts"))};
      new NftablesNat().apply(masqueradeIntent("cni/n" + process.argv[1], ["10." + process.argv[1] + ".0.0/16"]));`;
    const children = namespace.run(() =>
      Array.from({ length: 6 }, (_, index) => Bun.spawn([process.execPath, "-e", script, String(index)])),
    );
    expect(await Promise.all(children.map((child) => child.exited))).toEqual([0, 0, 0, 0, 0, 0]);
    using nat = new NftablesNat({ namespace });
    expect(nat.intents()).toHaveLength(6);
    for (const intent of nat.intents()) expect(nat.verify(intent)).toEqual([]);
  });
});
