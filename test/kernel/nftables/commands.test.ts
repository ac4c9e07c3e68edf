/** What we write against what nft -f writes: both must list the same. Transactions are all or nothing. */
import { expect } from "bun:test";
import type { NetworkNamespace } from "../../../src/kernel/namespace.ts";
import { NetlinkError } from "../../../src/linux/netlink/netlink-error.ts";
import { EncodeError } from "../../../src/linux/netlink/wire.ts";
import {
  addChain,
  addElements,
  addFlowtable,
  addObject,
  addRule,
  addSet,
  addTable,
  createChain,
  createElements,
  createSet,
  createTable,
  deleteChain,
  deleteElements,
  deleteFlowtable,
  deleteObject,
  deleteRule,
  deleteSet,
  deleteTable,
  destroyTable,
  flushChain,
  flushSet,
  flushTable,
  insertRule,
  replaceRule,
  type Transaction,
  type ElementSpec,
  type Expressions,
  type SetSpec,
} from "../../../src/linux/nftables/commands.ts";
import { Nftables } from "../../../src/kernel/nftables/nftables.ts";
import * as rule from "../../../src/linux/nftables/rule-builder.ts";
import type { Family } from "../../../src/linux/nftables/ruleset.ts";
import { ruleText } from "../../../src/linux/nftables/text/ruleset.ts";
import { ask, testWith } from "../../support/witness.ts";
import { freshNamespace } from "../../support/world.ts";
import { listedByNft, readRuleset } from "./ruleset-world.ts";

const { match, inSet, anyOf, masked } = rule;
const table = { family: "inet", table: "w" } as const;
const chain = { ...table, chain: "c" } as const;
const withNft = testWith(["root", "nft"]);

function apply(namespace: NetworkNamespace, changes: Transaction): void {
  using nftables = Nftables.open(namespace);
  nftables.transaction(changes, "testing");
}

/** Ours in one namespace, nft's in another: the same listing. */
function expectSame(changes: Transaction, text: string): void {
  const [ours, theirs] = [freshNamespace(), freshNamespace()];
  apply(ours, changes);
  ask(theirs, ["nft", "-f", "-"], text);
  expect(listedByNft(ours)).toEqual(listedByNft(theirs));
}

const ipv4 = match("meta nfproto", "ipv4");
const ipv6 = match("meta nfproto", "ipv6");
const tcp = match("meta l4proto", "tcp");

/** Expressions as our builders make them, beside the nft text they stand for. */
const RULES: readonly (readonly [text: string, expressions: Expressions])[] = [
  ["ip saddr 10.0.0.1", [ipv4, match("ip saddr", "10.0.0.1")]],
  ["ip saddr 10.0.0.0/24", [ipv4, match("ip saddr", "10.0.0.0/24")]],
  ["ip saddr != 10.0.0.0/20", [ipv4, match("ip saddr", "10.0.0.0/20", "!=")]],
  ["ip daddr 10.0.0.1-10.0.0.9", [ipv4, match("ip daddr", "10.0.0.1-10.0.0.9")]],
  ["ip daddr != 10.0.0.1-10.0.0.9", [ipv4, match("ip daddr", "10.0.0.1-10.0.0.9", "!=")]],
  ["ip6 saddr fd00::/64", [ipv6, match("ip6 saddr", "fd00::/64")]],
  ["ip6 daddr != fd00::/61", [ipv6, match("ip6 daddr", "fd00::/61", "!=")]],
  ["ip saddr @nets", [ipv4, match("ip saddr", inSet("nets"))]],
  ["ip saddr != @nets", [ipv4, match("ip saddr", inSet("nets"), "!=")]],
  ["ip saddr . tcp dport @pairs", [ipv4, tcp, match(["ip saddr", "tcp dport"], inSet("pairs"))]],
  ["tcp dport 80", [tcp, match("tcp dport", 80)]],
  ["tcp dport 80-90", [tcp, match("tcp dport", "80-90")]],
  ["tcp dport != 80-90", [tcp, match("tcp dport", "80-90", "!=")]],
  ["tcp sport >= 1024", [tcp, match("tcp sport", 1024, ">=")]],
  ["icmp type echo-request", [match("meta l4proto", "icmp"), match("icmp type", "echo-request")]],
  ['iifname "br0"', [match("meta iifname", "br0")]],
  ['oifname != "eth*"', [match("meta oifname", "eth*", "!=")]],
  ["meta mark 0x10", [match("meta mark", 0x10)]],
  ["meta mark & 0x2000 == 0x2000", [match("meta mark", masked(0x2000, 0x2000))]],
  ["meta mark & 0xf000 != 0x2000", [match("meta mark", masked(0xf000, 0x2000), "!=")]],
  ["meta mark 1-5", [match("meta mark", "1-5")]],
  ["meta length > 1000", [match("meta length", 1000, ">")]],
  ["ct state established,related", [match("ct state", anyOf("established", "related"))]],
  ["ct state ! new", [match("ct state", anyOf("new"), "!=")]],
  ["ct status dnat", [match("ct status", anyOf("dnat"))]],
  ["ct mark 5", [match("ct mark", 5)]],
  ["ct direction reply", [match("ct direction", "reply")]],
  ["ct original ip saddr 10.0.0.1", [match("ct original ip saddr", "10.0.0.1")]],
  ["fib daddr type local", [match("fib daddr type", "local")]],
  [
    "ether saddr 00:11:22:33:44:55",
    [match("meta iiftype", "ether"), match("ether saddr", "00:11:22:33:44:55")],
  ],
  ["meta skuid 1000", [match("meta skuid", 1000)]],
  ["accept", [rule.accept()]],
  ["drop", [rule.drop()]],
  ["return", [rule.returns()]],
  ["jump sub", [rule.jump("sub")]],
  ["goto sub", [rule.goTo("sub")]],
  ["ip saddr vmap @verdicts", [ipv4, rule.verdictMap("ip saddr", "verdicts")]],
  ["counter", [rule.counter()]],
  ['counter name "hits"', [rule.objectRef("counter", "hits")]],
  ["limit rate 10/minute burst 5 packets", [rule.limit(10, "minute")]],
  ["limit rate 10/second burst 20 packets", [rule.limit(10, "second", 20)]],
  ['log prefix "seen: " level info', [rule.log({ prefix: "seen: ", level: "info" })]],
  ["log group 5", [rule.log({ group: 5 })]],
  ["notrack", [rule.notrack()]],
  ["meta mark set 0x10", [rule.setMark(0x10)]],
  ["meta mark set meta mark & 0xffffff00 | 0x10", [rule.setMark(0x10, 0xff)]],
  ["ct mark set 0x10", [rule.setCtMark(0x10)]],
  ["ct mark set meta mark", [rule.saveMark()]],
  ["meta mark set ct mark", [rule.restoreMark()]],
  ["meta nftrace set 1", [rule.setNftrace()]],
  ["reject", [rule.reject()]],
  ["reject with icmpx admin-prohibited", [rule.reject("admin-prohibited")]],
  ["meta l4proto tcp reject with tcp reset", [tcp, rule.reject("tcp reset")]],
];

const NAT_RULES: readonly (readonly [text: string, expressions: Expressions])[] = [
  ["masquerade", [rule.masquerade()]],
  ["masquerade random,persistent", [rule.masquerade({ random: true, persistent: true })]],
  ["masquerade fully-random", [rule.masquerade({ fullyRandom: true })]],
  ["meta l4proto tcp masquerade to :1024-65535", [tcp, rule.masquerade({ ports: "1024-65535" })]],
  [
    "meta l4proto tcp masquerade to :1024 fully-random",
    [tcp, rule.masquerade({ ports: 1024, fullyRandom: true })],
  ],
  ["snat ip to 203.0.113.5", [rule.snat("203.0.113.5")]],
  ["snat ip to 203.0.113.5-203.0.113.9", [rule.snat("203.0.113.5-203.0.113.9")]],
  ["snat ip to 203.0.113.5 persistent", [rule.snat("203.0.113.5", { persistent: true })]],
  ["snat ip6 to 2001:db8::1", [rule.snat("2001:db8::1")]],
  [
    "meta l4proto tcp snat ip to 203.0.113.5-203.0.113.9:1024-2048 fully-random",
    [tcp, rule.snat("203.0.113.5-203.0.113.9", { ports: "1024-2048", fullyRandom: true })],
  ],
  [
    "snat ip to ip saddr map @sources",
    [ipv4, rule.snatByMap({ key: "ip saddr", map: "sources", family: "ip" })],
  ],
  [
    "snat ip to ip saddr map @ranges",
    [ipv4, rule.snatByMap({ key: "ip saddr", map: "ranges", family: "ip", interval: true })],
  ],
  [
    "snat ip to ip saddr . tcp dport map @byport",
    [ipv4, tcp, rule.snatByMap({ key: ["ip saddr", "tcp dport"], map: "byport", family: "ip" })],
  ],
  ["snat ip6 to ip6 saddr map @six", [ipv6, rule.snatByMap({ key: "ip6 saddr", map: "six", family: "ip6" })]],
];

const SETS: readonly (readonly [text: string, set: SetSpec, elements: readonly ElementSpec[]])[] = [
  [
    'set nets { type ipv4_addr; flags interval; auto-merge; comment "nets"; elements = { 10.0.0.0/24, 10.0.2.0/24, 10.1.0.1 comment "one", 10.2.0.1-10.2.0.9, 255.255.255.0/24 }; }',
    { ...table, set: "nets", type: "ipv4_addr", flags: ["interval"], autoMerge: true, comment: "nets" },
    [
      { key: "10.0.0.0/24" },
      { key: "10.0.2.0/24" },
      { key: "10.1.0.1", comment: "one" },
      { key: "10.2.0.1-10.2.0.9" },
      { key: "255.255.255.0/24" },
    ],
  ],
  [
    "set pairs { type ipv4_addr . inet_service; flags interval; elements = { 10.0.0.0/24 . 80-90, 10.0.1.1 . 443 }; }",
    { ...table, set: "pairs", type: "ipv4_addr . inet_service", flags: ["interval"] },
    [{ key: ["10.0.0.0/24", "80-90"] }, { key: ["10.0.1.1", 443] }],
  ],
  [
    'set names { type ifname; flags interval; elements = { "eth*", "br0" }; }',
    { ...table, set: "names", type: "ifname", flags: ["interval"] },
    [{ key: "eth*" }, { key: "br0" }],
  ],
  [
    "set marks { type mark; flags interval; elements = { 0x10-0x20, 0x1 }; }",
    { ...table, set: "marks", type: "mark", flags: ["interval"] },
    [{ key: "0x10-0x20" }, { key: 1 }],
  ],
  [
    "set macs { type ether_addr . ipv4_addr; size 100; elements = { 00:11:22:33:44:55 . 10.0.0.1 }; }",
    { ...table, set: "macs", type: "ether_addr . ipv4_addr", size: 100 },
    [{ key: ["00:11:22:33:44:55", "10.0.0.1"] }],
  ],
  [
    "set six { type ipv6_addr; flags interval; elements = { fd00::/64, ff00::/8 }; }",
    { ...table, set: "six", type: "ipv6_addr", flags: ["interval"] },
    [{ key: "fd00::/64" }, { key: "ff00::/8" }],
  ],
  [
    "set short { type ipv4_addr; flags timeout; timeout 1h; elements = { 10.0.0.1 timeout 10m }; }",
    { ...table, set: "short", type: "ipv4_addr", timeoutMs: 3_600_000 },
    [{ key: "10.0.0.1", timeoutMs: 600_000 }],
  ],
  [
    "set counted { type inet_service; counter; elements = { 80 counter packets 0 bytes 0 }; }",
    { ...table, set: "counted", type: "inet_service", expressions: [rule.counter()] },
    [{ key: 80, expressions: [rule.counter()] }],
  ],
  [
    "map verdicts { type ipv4_addr : verdict; elements = { 10.0.0.1 : accept, 10.0.0.2 : jump sub }; }",
    { ...table, set: "verdicts", type: "ipv4_addr", dataType: "verdict" },
    [
      { key: "10.0.0.1", data: { verdict: "accept" } },
      { key: "10.0.0.2", data: { verdict: "jump", chain: "sub" } },
    ],
  ],
  [
    "map sources { type ipv4_addr : ipv4_addr; flags interval; elements = { 10.0.0.0/24 : 203.0.113.5 }; }",
    { ...table, set: "sources", type: "ipv4_addr", dataType: "ipv4_addr", flags: ["interval"] },
    [{ key: "10.0.0.0/24", data: "203.0.113.5" }],
  ],
  [
    "map ranges { type ipv4_addr : interval ipv4_addr; flags interval; elements = { 10.0.0.0/24 : 203.0.113.5-203.0.113.9, 10.0.1.0/24 : 203.0.113.20-203.0.113.21 }; }",
    {
      ...table,
      set: "ranges",
      type: "ipv4_addr",
      dataType: "ipv4_addr",
      dataInterval: true,
      flags: ["interval"],
    },
    [
      { key: "10.0.0.0/24", data: "203.0.113.5-203.0.113.9" },
      { key: "10.0.1.0/24", data: "203.0.113.20-203.0.113.21" },
    ],
  ],
  [
    "map byport { type ipv4_addr . inet_service : ipv4_addr; flags interval; elements = { 10.0.0.0/24 . 80 : 203.0.113.5 }; }",
    {
      ...table,
      set: "byport",
      type: "ipv4_addr . inet_service",
      dataType: "ipv4_addr",
      flags: ["interval"],
    },
    [{ key: ["10.0.0.0/24", 80], data: "203.0.113.5" }],
  ],
  [
    "map ports { type inet_service : ipv4_addr . inet_service; elements = { 80 : 10.0.0.1 . 8080 }; }",
    { ...table, set: "ports", type: "inet_service", dataType: "ipv4_addr . inet_service" },
    [{ key: 80, data: ["10.0.0.1", 8080] }],
  ],
  [
    'map bycount { type ipv4_addr : counter; elements = { 10.0.0.1 : "hits" }; }',
    { ...table, set: "bycount", type: "ipv4_addr", objectType: "counter" },
    [{ key: "10.0.0.1", object: "hits" }],
  ],
];

const sub = { ...table, chain: "sub" } as const;
const base: Transaction = [
  addTable(table),
  addChain(sub),
  addObject({ ...table, object: "hits" }, { type: "counter", packets: 0, bytes: 0 }),
];
const BASE_TEXT = "chain sub { }\ncounter hits { }\n";
const natMaps = SETS.filter(([, set]) => ["sources", "ranges", "byport"].includes(set.set));

withNft("sets and maps of all kinds", () => {
  expectSame(
    [...base, ...SETS.flatMap(([, set, elements]) => [addSet(set), addElements(set, elements)])],
    `table inet w {\n${BASE_TEXT}${SETS.map(([text]) => text).join("\n")}\n}`,
  );
});

withNft("rules of all kinds", () => {
  const sets = SETS.filter(([, set]) => ["nets", "pairs", "verdicts"].includes(set.set));
  expectSame(
    [
      ...base,
      ...sets.flatMap(([, set, elements]) => [addSet(set), addElements(set, elements)]),
      addChain(chain),
      ...RULES.map(([text, expressions]) => addRule(chain, { expressions, comment: commentOf(text) })),
    ],
    `table inet w {\n${BASE_TEXT}${sets.map(([text]) => text).join("\n")}\nchain c {\n${RULES.map(
      ([text]) => `${text} comment "${commentOf(text)}"\n`,
    ).join("")}}\n}`,
  );
});

/** nft's grammar has no escapes: no quotes in a comment. */
function commentOf(text: string): string {
  return text.replaceAll('"', "'");
}

withNft("NAT rules of all kinds, and the text of each is the one it stands for", () => {
  const post = { ...table, chain: "post" };
  const six: SetSpec = { ...table, set: "six", type: "ipv6_addr", dataType: "ipv6_addr" };
  const ours = freshNamespace();
  const changes: Transaction = [
    ...base,
    ...natMaps.flatMap(([, set, elements]) => [addSet(set), addElements(set, elements)]),
    addSet(six),
    addChain(post, { base: { type: "nat", hook: "postrouting", priority: 90 }, comment: "last" }),
    ...NAT_RULES.map(([, expressions]) => addRule(post, { expressions })),
  ];
  expectSame(
    changes,
    `table inet w {\n${BASE_TEXT}${natMaps.map(([text]) => text).join("\n")}
     map six { type ipv6_addr : ipv6_addr; }
     chain post { comment "last"
     type nat hook postrouting priority 90; policy accept;
     ${NAT_RULES.map(([text]) => text).join("\n")}
     }
}`,
  );
  apply(ours, changes);
  const read = readRuleset(ours).tables[0]!;
  const texts = read.chains.find((one) => one.name === "post")!.rules.map((one) => ruleText(one, read));
  expect(texts).toEqual(NAT_RULES.map(([text]) => text));
});

withNft("tables, base chains, objects and flowtables", () => {
  const families: readonly Family[] = ["ip", "ip6", "inet", "arp", "bridge"];
  expectSame(
    [
      ...families.flatMap((family) => [
        addTable({ family, table: "f" }, { comment: `of ${family}` }),
        addChain(
          { family, table: "f", chain: "in" },
          { base: { type: "filter", hook: "input", priority: -5, policy: "drop" } },
        ),
      ]),
      addTable({ family: "netdev", table: "n" }, { flags: ["dormant"] }),
      addTable(table),
      addChain(
        { ...table, chain: "ing" },
        { base: { type: "filter", hook: "ingress", priority: 0, devices: ["lo"] } },
      ),
      addObject({ ...table, object: "q" }, { type: "quota", bytes: 1000, consumed: 0, flags: ["inv"] }),
      addObject(
        { ...table, object: "l" },
        { type: "limit", rate: 10, unitSeconds: 1, burst: 5, per: "packets", over: false },
        "a limit",
      ),
      addObject({ ...table, object: "h" }, { type: "ct helper", helper: "ftp", l3proto: 2, l4proto: 6 }),
    ],
    `${families
      .map(
        (family) =>
          `table ${family} f { comment "of ${family}"; chain in { type filter hook input priority -5; policy drop; }\n}`,
      )
      .join("\n")}
     table netdev n { flags dormant; }
     table inet w {
       chain ing { type filter hook ingress device lo priority 0; }
       quota q { over 1000 bytes; }
       limit l { comment "a limit"; rate 10/second; }
       ct helper h { type "ftp" protocol tcp; l3proto ip; }
     }`,
  );
});

withNft("flush, delete, insert and replace", () => {
  const namespace = freshNamespace();
  using nftables = Nftables.open(namespace);
  const set: SetSpec = { ...table, set: "s", type: "inet_service" };
  nftables.transaction(
    [...base, addChain(chain), addSet(set), addElements(set, [{ key: 1 }, { key: 2 }])],
    "setting up",
  );
  nftables.transaction([addRule(chain, { expressions: [rule.accept()] })], "one");
  const first = nftables.chainRules(chain)![0]!.handle;
  nftables.transaction(
    [
      insertRule(chain, { expressions: [rule.drop()] }),
      addRule(chain, { expressions: [rule.returns()], position: first }),
      replaceRule({ ...chain, handle: first }, { expressions: [rule.counter(), rule.accept()] }),
      deleteElements(set, [{ key: 1 }]),
    ],
    "changing",
  );
  const read = nftables.table(table)!;
  const texts = read.chains.find((one) => one.name === "c")!.rules.map((one) => ruleText(one, read));
  expect(texts).toEqual(["drop", "counter packets 0 bytes 0 accept", "return"]);
  expect(nftables.elements(set)).toEqual([{ key: "0002" }]);
  nftables.transaction([flushChain(chain), flushSet(set)], "flushing");
  expect(nftables.chainRules(chain)).toEqual([]);
  expect(nftables.elements(set)).toEqual([]);
  const object = { ...table, object: "hits" };
  nftables.transaction(
    [deleteSet(set), deleteChain(chain), deleteChain(sub), deleteObject(object, "counter")],
    "deleting",
  );
  expect(nftables.table(table)).toMatchObject({ chains: [], sets: [], objects: [] });
  nftables.transaction([flushTable(table), deleteTable(table)], "deleting the table");
  expect(nftables.getTable(table)).toBeUndefined();
  nftables.transaction(destroyTable(table), "deleting what is not there");
  expect(nftables.ruleset().tables).toEqual([]);
});

withNft("cheap questions", () => {
  const namespace = freshNamespace();
  using nftables = Nftables.open(namespace);
  const set: SetSpec = { ...table, set: "s", type: "ipv4_addr", flags: ["interval"] };
  const pairs: SetSpec = { ...table, set: "p", type: "ipv4_addr . inet_service" };
  expect([nftables.getTable(table), nftables.getChain(chain), nftables.getSet(set)]).toEqual([
    undefined,
    undefined,
    undefined,
  ]);
  expect(nftables.chainRules(chain)).toBeUndefined();
  expect(nftables.elements(set)).toBeUndefined();
  expect(nftables.hasElement(set, "10.0.0.1")).toBe(false);
  const before = nftables.generation();
  nftables.transaction(
    [
      addTable(table),
      addChain(chain),
      addSet(set),
      addSet(pairs),
      addElements(set, [{ key: "10.0.0.0/24" }]),
      addElements(pairs, [{ key: ["10.0.0.1", 80] }]),
      addRule(chain, { expressions: [rule.counter()], comment: "mine" }),
    ],
    "setting up",
  );
  expect(nftables.generation()).toBe(before + 1);
  expect(nftables.getTable(table)?.name).toBe("w");
  expect(nftables.getChain(chain)?.name).toBe("c");
  const [only] = nftables.chainRules(chain)!;
  expect(nftables.getRule({ ...chain, handle: only!.handle })).toEqual(only);
  expect(nftables.getRule({ ...chain, handle: 9999 })).toBeUndefined();
  expect(nftables.hasElement(set, "10.0.0.77")).toBe(true);
  expect(nftables.hasElement(set, "10.0.1.1")).toBe(false);
  expect(nftables.hasElement(pairs, ["10.0.0.1", 80])).toBe(true);
  expect(nftables.hasElement(pairs, ["10.0.0.1", 81])).toBe(false);
  expect(nftables.ruleset({ families: ["ip"] }).tables).toEqual([]);
});

withNft("a transaction that fails leaves nothing, and names what the kernel refused", () => {
  const namespace = freshNamespace();
  using nftables = Nftables.open(namespace);
  const before = nftables.ruleset();
  const refused = ((): unknown => {
    try {
      nftables.transaction(
        [
          addTable(table),
          addChain(chain),
          addRule(chain, { expressions: [rule.accept()] }),
          addRule(chain, { expressions: [rule.counter(), { kind: "cmp", sreg: 99, op: "==", data: "00" }] }),
        ],
        "testing",
      );
    } catch (error) {
      return error;
    }
    return undefined;
  })();
  expect(refused).toBeInstanceOf(NetlinkError);
  expect((refused as NetlinkError).message).toBe(
    "adding a rule to chain inet w c: the kernel says: out of range (ERANGE at NFTA_RULE_EXPRESSIONS.NFTA_LIST_ELEM[1])",
  );
  expect(nftables.ruleset()).toEqual(before);
});

withNft("create refuses what is there; a stale generation refuses the whole transaction", () => {
  const namespace = freshNamespace();
  using nftables = Nftables.open(namespace);
  const set: SetSpec = { ...table, set: "s", type: "inet_service" };
  const all: Transaction = [
    createTable(table),
    createChain(chain),
    createSet(set),
    createElements(set, [{ key: 1 }]),
  ];
  nftables.transaction(all, "creating");
  for (const one of all) expect(() => nftables.transaction([one], "again")).toThrow(/EEXIST/);
  const generation = nftables.generation();
  nftables.transaction([addRule(chain, { expressions: [rule.accept()] })], "meanwhile");
  expect(() => nftables.transaction([flushChain(chain)], "late", { generation })).toThrow();
  expect(nftables.chainRules(chain)).toHaveLength(1);
  expect(() => nftables.transaction([deleteRule({ ...chain, handle: 999 })], "no such rule")).toThrow(
    /ENOENT/,
  );
});

withNft("a set of 20 000 elements goes in and comes back", () => {
  const namespace = freshNamespace();
  using nftables = Nftables.open(namespace);
  const set: SetSpec = { ...table, set: "many", type: "ipv4_addr", flags: ["interval"] };
  const elements = Array.from({ length: 20_000 }, (_, index) => ({
    key: `10.${index >> 8}.${index & 255}.0/25`,
  }));
  nftables.transaction([addTable(table), addSet(set), addElements(set, elements)], "filling a set");
  const read = nftables.elements(set)!;
  expect(read).toHaveLength(20_000);
  expect(read[300]).toEqual({ key: "0a012c00", keyEnd: "0a012c7f" });
});

testWith(["root"])("what cannot be sent is refused before the kernel sees it", () => {
  const set: SetSpec = { ...table, set: "s", type: "ipv4_addr" };
  expect(() => addElements(set, [{ key: "10.0.0.0/24" }])).toThrow(EncodeError);
  expect(() => addElements(set, [{ key: ["10.0.0.1", 80] }])).toThrow(EncodeError);
  expect(() => addElements(set, [{ key: "fd00::1" }])).toThrow(EncodeError);
  expect(() => addElements({ ...set, type: "no_such_type" }, [{ key: "1" }])).toThrow(/no data type/);
  expect(() => match("tcp dport", "http")).toThrow(/tcp dport/);
  expect(() => match("meta oifname", "a-name-of-16-bytes")).toThrow(EncodeError);
  expect(() =>
    addChain(
      { family: "arp", table: "t", chain: "c" },
      { base: { type: "filter", hook: "ingress", priority: 0 } },
    ),
  ).toThrow(/no hook/);
});

withNft("flowtables, where the kernel has them", () => {
  const namespace = freshNamespace();
  using nftables = Nftables.open(namespace);
  const flowtable = { ...table, flowtable: "ft" };
  try {
    nftables.transaction(
      [addTable(table), addFlowtable(flowtable, { priority: 0, devices: ["lo"] })],
      "adding one",
    );
  } catch (error) {
    // A kernel without nf_flow_table says so; then nothing is left of the table either.
    expect(["EOPNOTSUPP", "ENOENT"]).toContain((error as NetlinkError).code);
    expect(nftables.getTable(table)).toBeUndefined();
    return;
  }
  expect(nftables.table(table)?.flowtables[0]).toMatchObject({
    name: "ft",
    hook: "ingress",
    devices: ["lo"],
  });
  nftables.transaction([deleteFlowtable(flowtable)], "deleting it");
});
