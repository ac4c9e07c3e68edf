/** Random rulesets, as text for nft, iptables-restore and ip. The same seed makes the same ruleset. */
import { MATCH_SAMPLES } from "../linux/xtables-rules.ts";

/** A small generator of numbers (mulberry32): a test's seed must mean the same everywhere. */
export class Random {
  #state: number;

  constructor(readonly seed: number) {
    this.#state = seed >>> 0;
  }

  /** 0 ≤ x < 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  }

  below(limit: number): number {
    return Math.floor(this.next() * limit);
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!;
  }

  times<T>(least: number, most: number, make: (index: number) => T): T[] {
    return Array.from({ length: least + this.below(most - least + 1) }, (_, index) => make(index));
  }
}

export const DESTINATIONS = ["198.51.100.101", "198.51.100.102", "198.51.100.201", "192.0.2.7"] as const;
export const PORTS = [53, 80, 81, 443, 8080, 9999] as const;
const SOURCES = ["10.0.0.1", "10.0.0.0/24", "10.0.0.0/29", "10.1.0.0/16", "10.0.0.1-10.0.0.9"] as const;
const NETWORKS = [
  "198.51.100.0/24",
  "198.51.100.96/28",
  "192.0.2.0/24",
  "198.51.100.101-198.51.100.150",
  ...DESTINATIONS,
];
const NAT_DESTINATIONS = ["198.51.100.102", "198.51.100.201", "192.0.2.7"] as const;
const LINKS = ["lan0", "up0", "ens5", "lan*", "eth1", "up*"] as const;

export interface RandomRuleset {
  readonly nft: string;
  /** Input of `ip -batch`: rules, tables, next hops. */
  readonly routing: readonly string[];
  /** Reverse path filters, and whether marks count for them. */
  readonly sysctls: Readonly<Record<string, number>>;
  /** Input of iptables-restore; undefined for a ruleset without iptables. */
  readonly iptables: string | undefined;
}

export function randomRuleset(random: Random): RandomRuleset {
  const tables = random.times(1, 3, (index) => nftTable(random, index));
  const raw = random.chance(0.35) ? [rawTable(random)] : [];
  return {
    nft: [...raw, ...tables].join("\n"),
    iptables: random.chance(0.5) ? iptablesTables(random) : undefined,
    routing: random.chance(0.6) ? routing(random) : [],
    sysctls: random.chance(0.5) ? reversePaths(random) : {},
  };
}

// ── Routing ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** The node's ways out: each with the router behind it. */
export const UPLINKS = [
  { link: "up0", address: "203.0.113.5", router: "203.0.113.1" },
  { link: "eth1", address: "192.0.2.200", router: "192.0.2.129" },
] as const;

const TABLES = [101, 102, 103] as const;

function hop(random: Random): string {
  const { link, router } = random.pick(UPLINKS);
  return `via ${router} dev ${link}`;
}

const MULTIPATH = UPLINKS.map(({ link, router }) => `nexthop via ${router} dev ${link}`).join(" ");

function routing(random: Random): string[] {
  const tables = TABLES.flatMap((table) => {
    const routes = random.times(0, 2, () => tableRoute(random, table));
    // Answers to the pods find their way by these tables, too, or they do not.
    return random.chance(0.6) ? [...routes, `route add 10.0.0.0/24 dev lan0 table ${table}`] : routes;
  });
  const rules = random.times(1, 4, (index) => policyRule(random, 1000 + index * 10));
  const main = random.pick([
    [],
    [`route replace default ${hop(random)}`],
    [`route replace default ${MULTIPATH}`],
    [`route add ${random.pick(NETWORKS.slice(0, 3))} ${hop(random)}`],
    [`route add blackhole ${random.pick(DESTINATIONS)}`],
  ]);
  return [...main, ...tables, ...rules];
}

function tableRoute(random: Random, table: number): string {
  const prefix = random.pick(["default", "default", "198.51.100.0/24", "198.51.100.96/28", "192.0.2.0/25"]);
  switch (random.below(8)) {
    case 0:
      return `route add throw ${prefix} table ${table}`;
    case 1:
      return `route add ${random.pick(["blackhole", "unreachable", "prohibit"])} ${prefix} table ${table}`;
    case 2:
      return `route add local ${prefix} dev lo table ${table}`;
    case 3:
      return `route add ${prefix} table ${table} ${MULTIPATH}`;
    default:
      return `route add ${prefix} ${hop(random)} table ${table}`;
  }
}

function policyRule(random: Random, priority: number): string {
  const selectors = [
    random.chance(0.4)
      ? `from ${random.pick(["10.0.0.0/24", "10.0.0.1", "203.0.113.5", "198.51.100.0/24"])}`
      : "",
    random.chance(0.2) ? `to ${random.pick(["198.51.100.0/24", "192.0.2.7", "10.0.0.0/24"])}` : "",
    random.chance(0.4) ? `fwmark ${random.pick(["1", "2", "0x1/0x1", "0x2/0x3", "0"])}` : "",
    random.chance(0.15) ? `iif ${random.pick(["lan0", "up0", "eth1", "lo"])}` : "",
    random.chance(0.15) ? `ipproto ${random.pick(["tcp dport 80", "udp dport 53-100", "tcp"])}` : "",
  ].filter((text) => text !== "");
  const not = selectors.length > 0 && random.chance(0.1) ? "not " : "";
  const action = random.chance(0.1)
    ? random.pick(["prohibit", "unreachable", "blackhole"])
    : `lookup ${random.pick([...TABLES, "main"])}`;
  const suppressed = action === "lookup main" && random.chance(0.5) ? " suppress_prefixlength 0" : "";
  return `rule add priority ${priority} ${not}${selectors.join(" ")} ${action}${suppressed}`;
}

function reversePaths(random: Random): Record<string, number> {
  const value = (): number => random.pick([0, 0, 1, 2]);
  return {
    "net.ipv4.conf.lan0.rp_filter": value(),
    "net.ipv4.conf.up0.rp_filter": value(),
    "net.ipv4.conf.eth1.rp_filter": value(),
    "net.ipv4.conf.up0.src_valid_mark": random.below(2),
    "net.ipv4.conf.lan0.src_valid_mark": random.below(2),
  };
}

/** What stands before conntrack: zones, and what is kept out of it. */
function rawTable(random: Random): string {
  const rules = random.times(1, 3, () => {
    const matched = random.times(0, 2, () => nftMatch(random, true));
    const done = random.pick([
      "notrack",
      `ct zone set ${random.below(3)}`,
      `ct original zone set ${random.below(3)}`,
      `ct reply zone set ${random.below(3)}`,
      "meta mark set 1",
      "ip ttl set 64",
      "ip ttl set 1",
    ]);
    return `    ${[...matched, done].join(" ")}`;
  });
  return `table ip before {
  chain prerouting { type filter hook prerouting priority -300;
${rules.join("\n")}
  }
}`;
}

// ── nft ──────────────────────────────────────────────────────────────────────────────────────────────────────────

const FILTER_HOOKS = ["prerouting", "forward", "postrouting"] as const;

function nftTable(random: Random, index: number): string {
  const family = random.pick(["ip", "inet", "inet"]);
  const chains = random.times(1, 3, (at) => `c${at}`);
  const lines = [`table ${family} t${index} {`];
  lines.push(
    `  set nets { type ipv4_addr; flags interval; elements = { ${elements(random, NETWORKS.slice(0, 3))} } }`,
  );
  lines.push(`  set hosts { type ipv4_addr; elements = { ${elements(random, DESTINATIONS)} } }`);
  lines.push(
    `  set ports { type inet_service; flags interval; elements = { ${random.pick(["53, 80-90", "443", "8000-9000, 53", "1-1023"])} } }`,
  );
  lines.push(
    `  set pairs { type ipv4_addr . inet_service; flags interval; elements = { 198.51.100.0/24 . 80-443, 192.0.2.7 . 53 } }`,
  );
  lines.push(
    `  map marks { type ipv4_addr : mark; elements = { ${DESTINATIONS[0]} : 0x1, ${DESTINATIONS[2]} : 0x2 } }`,
  );
  for (const [at, name] of chains.entries()) {
    // Only to chains further down: no loops.
    lines.push(
      `  chain ${name} {`,
      ...random.times(0, 3, () => nftRule(random, chains.slice(at + 1), false)),
      "  }",
    );
  }
  // nft wants chains before rules that jump to them: base chains last.
  const jumps = chains;
  for (const hook of FILTER_HOOKS) {
    if (!random.chance(0.6)) continue;
    const priority = random.pick([-300, -150, -10, 0, 0, 10, 50, 150, 300]);
    const policy = random.chance(0.15) ? "drop" : "accept";
    lines.push(
      `  chain f-${hook} { type filter hook ${hook} priority ${priority}; policy ${policy};`,
      ...random.times(1, 4, () => nftRule(random, jumps, true)),
      ...(policy === "drop"
        ? [random.pick(["ct state new accept", "meta l4proto udp accept", "accept"])]
        : []),
      "  }",
    );
  }
  for (const hook of ["prerouting", "postrouting"] as const) {
    if (!random.chance(0.6)) continue;
    const priority = hook === "prerouting" ? random.pick([-110, -100, -90]) : random.pick([90, 95, 100, 110]);
    lines.push(
      `  chain n-${hook} { type nat hook ${hook} priority ${priority}; policy accept;`,
      ...random.times(1, 3, () => nftNatRule(random, hook, family)),
      "  }",
    );
  }
  lines.push("}");
  return lines.join("\n");
}

function elements(random: Random, from: readonly string[]): string {
  const some = from.filter(() => random.chance(0.6));
  return (some.length === 0 ? [from[0]!] : some).join(", ");
}

function nftRule(random: Random, jumps: readonly string[], base: boolean): string {
  const matches = random.times(0, 2, () => nftMatch(random));
  const statement = nftStatement(random, jumps, base);
  return `    ${[...matches, ...(random.chance(0.3) ? ["counter"] : []), statement].join(" ")}`;
}

/** @param early before conntrack has looked, and before the sets of a table */
function nftMatch(random: Random, early = false): string {
  const not = random.chance(0.2) ? "!= " : "";
  switch (early ? random.pick([0, 1, 5, 6, 7, 8, 10, 20]) : random.below(26)) {
    case 0:
      return `ip saddr ${not}${random.pick(SOURCES)}`;
    case 1:
      return `ip daddr ${not}${random.pick(NETWORKS)}`;
    case 2:
      return `ip daddr ${not}@nets`;
    case 3:
      return `ip daddr @hosts`;
    case 4:
      return `th dport ${not}@ports`;
    case 5:
      return `tcp dport ${not}${random.pick(PORTS)}`;
    case 6:
      return `udp dport { 53, ${random.pick(PORTS)} }`;
    case 7:
      return `meta l4proto ${random.pick(["tcp", "udp"])}`;
    case 8:
      return `iifname ${not}"${random.pick(LINKS)}"`;
    case 9:
      return `oifname ${not}"${random.pick(LINKS)}"`;
    case 10:
      return `meta mark ${not}${random.below(4)}`;
    case 11:
      return `meta mark & 0x3 == ${random.below(4)}`;
    case 12:
      return `ct state ${random.pick(["new", "established", "established,related", "invalid", "new,established"])}`;
    case 13:
      return `ct mark ${random.below(3)}`;
    case 14:
      return `ct direction ${random.pick(["original", "reply"])}`;
    case 15:
      return `ct status ${random.pick(["dnat", "snat"])}`;
    case 16:
      return `fib daddr type ${random.pick(["local", "unicast"])}`;
    case 17:
      return `tcp flags & (syn|ack) == ${random.pick(["syn", "syn|ack"])}`;
    case 18:
      return `ip daddr . th dport @pairs`;
    case 19:
      return `ip daddr . th dport { ${random.pick(DESTINATIONS)} . ${random.pick(PORTS)}, 192.0.2.7 . 80 }`;
    case 22:
      return `ip ttl ${random.pick(["< 64", "== 63", "64", "> 10"])}`;
    case 23:
      return `ct zone ${not}${random.below(3)}`;
    case 24:
      return `fib saddr . iif oif ${random.pick(["missing", "exists"])}`;
    case 25:
      return `ct reply ip daddr ${not}203.0.113.0/24`;
    case 20:
      return `th sport ${random.pick(["<", ">", "<=", ">="])} ${20_000 + random.below(20_000)}`;
    default:
      return `ct original ip daddr ${random.pick(NETWORKS.slice(0, 3))}`;
  }
}

function nftStatement(random: Random, jumps: readonly string[], base: boolean): string {
  switch (random.below(base ? 12 : 11)) {
    case 0:
      return "drop";
    case 1:
    case 2:
      return "accept";
    case 3:
      return jumps.length === 0 ? "return" : `jump ${random.pick(jumps)}`;
    case 4:
      return jumps.length === 0 ? "accept" : `goto ${random.pick(jumps)}`;
    case 5:
      return `meta mark set ${random.below(4)}`;
    case 6:
      return `ct mark set ${random.below(3)}`;
    case 7:
      return "meta mark set ip daddr map @marks";
    case 8:
      return jumps.length === 0
        ? `tcp dport vmap { 80 : accept, 8000-9999 : drop }`
        : `th dport vmap { 80 : jump ${random.pick(jumps)}, 443 : return, 8000-9999 : goto ${random.pick(jumps)} }`;
    case 9:
      return "return";
    case 10:
      return "ct mark set meta mark";
    default:
      return "meta mark set ct mark";
  }
}

function nftNatRule(random: Random, hook: "prerouting" | "postrouting", family: string): string {
  const matches = random.times(0, 2, () => nftMatch(random));
  const ip = family === "inet" ? " ip" : "";
  const statement =
    hook === "prerouting"
      ? random.pick([
          `dnat${ip} to ${random.pick(NAT_DESTINATIONS)}`,
          `meta l4proto tcp dnat${ip} to ${random.pick(NAT_DESTINATIONS)}:8080`,
          "meta l4proto tcp redirect to :3128",
          "accept",
          "return",
        ])
      : random.pick([
          "masquerade",
          `snat${ip} to 203.0.113.5`,
          `snat${ip} to 203.0.113.77`,
          `snat${ip} to 192.0.2.200`,
          "meta l4proto udp masquerade to :30000-30999",
          "accept",
          "return",
        ]);
  return `    ${[...matches, statement].join(" ")}`;
}

/** What depends on time, on other packets or on what nobody reads. */
export const DOUBTED: ReadonlySet<string> = new Set([
  "bpf",
  "cluster",
  "connbytes",
  "connlabel",
  "connlimit",
  "cpu",
  "hashlimit",
  "limit",
  "policy",
  "quota",
  "recent",
  "statistic",
  "string",
  "time",
  "u32",
]);

// ── iptables ─────────────────────────────────────────────────────────────────────────────────────────────────────

/** Rules of every match whose outcome can be foreseen, so that none is judged only on paper. */
const FORESEEABLE = MATCH_SAMPLES.filter(
  (one) =>
    one.family === undefined &&
    one.mayLack === undefined &&
    !one.chain.startsWith("OUT") &&
    !DOUBTED.has(one.name),
);
const EXTENSIONS = FORESEEABLE.filter((one) => one.chain === "FORWARD").flatMap((one) => one.rules);
const EARLY_EXTENSIONS = FORESEEABLE.filter(
  (one) =>
    one.chain === "PREROUTING" ||
    ["addrtype", "iprange", "mark", "ttl", "length", "devgroup"].includes(one.name),
).flatMap((one) => one.rules.filter((rule) => !rule.includes("-out") && !rule.includes("--dst-group")));

/** Those that may stand in the nat table, beside a protocol that the rule has already. */
const NAT_EXTENSIONS = EARLY_EXTENSIONS.filter((rule) => !/-m (?:rpfilter|socket)|^-p /.test(rule));

function iptablesTables(random: Random): string {
  const filter = [
    "*filter",
    `:FORWARD ${random.chance(0.15) ? "DROP" : "ACCEPT"} [0:0]`,
    ":USER - [0:0]",
    ...random.times(
      1,
      3,
      () => `-A USER ${iptablesMatches(random)} -j ${random.pick(["ACCEPT", "DROP", "RETURN"])}`,
    ),
    ...random.times(
      1,
      4,
      () => `-A FORWARD ${iptablesMatches(random)} -j ${random.pick(["ACCEPT", "USER", "USER", "DROP"])}`,
    ),
    "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "COMMIT",
  ];
  const mangle = [
    "*mangle",
    ...random.times(
      0,
      3,
      () =>
        `-A PREROUTING ${iptablesMatches(random, false)} -j ${random.pick(["MARK --set-xmark 0x1/0x3", "MARK --set-xmark 0x2/0xffffffff", "CONNMARK --save-mark", "CONNMARK --restore-mark", "TTL --ttl-set 1", "TTL --ttl-inc 2", "DSCP --set-dscp 0x0a", "TOS --set-tos 0x10", "TPROXY --on-port 15001 --tproxy-mark 0x1/0x1 -p tcp"])}`,
    ),
    "COMMIT",
  ];
  const nat = [
    "*nat",
    ...random.times(
      0,
      2,
      () =>
        `-A PREROUTING -p tcp ${iptablesMatches(random, false, "tcp")} -j ${random.chance(0.2) ? "REDIRECT --to-ports 3128" : `DNAT --to-destination ${random.pick(NAT_DESTINATIONS)}${random.chance(0.5) ? ":8080" : ""}`}`,
    ),
    ...random.times(
      0,
      3,
      () =>
        `-A POSTROUTING ${iptablesMatches(random)} -j ${random.pick(["MASQUERADE", "MASQUERADE --random-fully", "SNAT --to-source 203.0.113.77", "RETURN", "ACCEPT"])}`,
    ),
    "COMMIT",
  ];
  const raw = random.chance(0.3)
    ? [
        "*raw",
        ...random.times(
          1,
          2,
          () =>
            `-A PREROUTING ${iptablesMatches(random, false)} -j ${random.pick(["CT --notrack", "CT --zone 2", "CT --zone-orig 1", "CT --zone-reply 1", "NOTRACK"])}`,
        ),
        "COMMIT",
      ]
    : [];
  // A random port cannot be foreseen.
  return `${[...raw, ...mangle, ...filter, ...nat].join("\n").replaceAll(" --random-fully", "")}\n`;
}

function iptablesMatches(random: Random, withOut = true, protocol?: "tcp"): string {
  const parts = random.times(0, 2, () => {
    const not = random.chance(0.2) ? "! " : "";
    switch (random.below(16)) {
      case 11:
      case 12:
      case 13:
      case 14:
      case 15:
        return random.pick(withOut ? EXTENSIONS : protocol === undefined ? EARLY_EXTENSIONS : NAT_EXTENSIONS);
      case 0:
        return `${not}-s ${random.pick(["10.0.0.1", "10.0.0.0/24", "10.1.0.0/16"])}`;
      case 1:
        return `${not}-d ${random.pick(["198.51.100.0/24", "192.0.2.0/24", ...DESTINATIONS])}`;
      case 2:
        return `${not}-i ${random.pick(["lan0", "up0", "lan+"])}`;
      case 3:
        return withOut ? `${not}-o ${random.pick(["lan0", "up0", "ens5"])}` : "";
      case 4:
        return `-m mark ${not}--mark ${random.pick(["0x1", "0x0/0x3", "0x2/0x2"])}`;
      case 5:
        return `-m conntrack ${not}--ctstate ${random.pick(["NEW", "ESTABLISHED", "RELATED,ESTABLISHED", "DNAT", "SNAT"])}`;
      case 6:
        return `-m addrtype ${not}--dst-type ${random.pick(["LOCAL", "UNICAST"])}`;
      case 7:
        return `-m iprange ${not}--dst-range 198.51.100.100-198.51.100.150`;
      case 8:
        return `-m comment --comment "rule ${random.below(100)}"`;
      case 9:
        return `-m connmark ${not}--mark 0x1/0x3`;
      default:
        return `-m conntrack --ctdir ${random.pick(["ORIGINAL", "REPLY"])}`;
    }
  });
  // iptables takes a protocol once, and ports only behind it.
  const ports =
    protocol === undefined && random.chance(0.4)
      ? random.pick([
          "-p tcp --dport 80",
          "-p udp --dport 53:100",
          "-p tcp -m multiport --dports 80,443,8000:9000",
          "-p udp ! --sport 1:100",
          "-p tcp --tcp-flags SYN,ACK SYN",
        ])
      : "";
  return dedupe([...parts, ports]);
}

/** An option may stand only once in a rule. */
function dedupe(parts: readonly string[]): string {
  const seen = new Set<string>();
  return parts
    .filter((part) => {
      const option = part
        .replace(/^! /, "")
        .split(" ")
        .slice(0, part.startsWith("-m") ? 2 : 1)
        .join(" ");
      if (seen.has(option)) return false;
      seen.add(option);
      return true;
    })
    .join(" ");
}
