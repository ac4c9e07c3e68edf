/** What lets a packet through that a rule or a policy stops, and whose word it takes. */
import { IP_PROTOCOL } from "../../linux/ip-protocol.ts";
import { HOOK_PRIORITY } from "../../linux/netfilter.ts";
import { iptablesInterface, nftInterface, nftName } from "../../linux/nftables/spelling.ts";
import { command, type CommandLine } from "../../text/command.ts";
import { isIptablesTable } from "../../linux/nftables/text/ruleset.ts";
import type { Chain, Table } from "../../linux/nftables/ruleset.ts";
import { ANYWHERE } from "../anywhere.ts";
import { deleteRuleFix, type CheckContext } from "../check.ts";
import type { Evidence, Fix } from "../finding.ts";
import type { RepairPlace } from "../remedy/repair.ts";

import type { Decision } from "../predict/decision.ts";
import type { Direction } from "../predict/side.ts";
import type { Link } from "../../linux/route/link.ts";
import type { Stop } from "../predict/path.ts";
import { decisionText, isLegacy, legacyProgram, ruleNumber } from "../wording.ts";
import type { Listener } from "../../linux/socket-diag.ts";
import { deciderOf } from "./service.ts";
import { raised, usedUp, type UsedUp } from "./limit-cure.ts";
import { productOfDecision } from "../whose.ts";

/** How often the rule, or the policy, has decided since it was made; nothing where nobody counts. */
export function counterEvidence({ rule, base }: Decision): Evidence[] {
  const counter = rule === undefined ? base.counter : rule.expressions.find((one) => one.kind === "counter");
  if (counter === undefined) return [];
  return [{ source: "counter", value: `${counter.packets} packets${rule === undefined ? " (policy)" : ""}` }];
}

export type Filtered = Extract<Stop, { readonly kind: "filtered" }>;

/** What is asked at a link before anything can be sent by it. */
export function discoveryText({ pod, family, path }: CheckContext, { link, place }: Filtered): string {
  const what = family === 4 ? "ARP" : "neighbour discovery (ICMPv6 types 135, 136)";
  const ofPod = place === "pod" || link === undefined || link.index === path.inLink?.index;
  return ofPod ? `${what} for ${pod.name}` : `${what} at ${link.name}`;
}

export interface Cure {
  readonly fix: readonly (Fix | undefined)[];
  readonly advice: readonly string[];
}

type Conditions = readonly (readonly [selector: keyof typeof LETTERS, value: string])[];

/** `from any sender`: what is stopped is no answer of the destination but what routers on the way say. */
type Senders = "from the destination" | "from any sender";

/** Where a product takes its orders: what it wrote itself it writes again. */
const OWN_WAY: readonly (readonly [product: RegExp, advice: string, exempt: boolean])[] = [
  [
    /^(?:kube-router|Calico|Cilium|Antrea|kube-network-policies|Weave|Azure NPM)$/,
    "allow it in a NetworkPolicy: kubectl get networkpolicy -A; the agent writes its rules again",
    false,
  ],
  [/^kube-proxy$/, "kube-proxy writes its rules again: change the Service, not the rule", true],
  [/^kubelet$/, "kubelet writes its rules again", false],
  [
    /^fail2ban$/,
    "take the ban back: fail2ban-client set JAIL unbanip ADDRESS, and name the pods' range in ignoreip",
    true,
  ],
  [/^CrowdSec$/, "take the decision back: cscli decisions delete --ip ADDRESS", true],
  [
    /^Docker$/,
    "for good: publish the port, or give the network gateway_mode_ipv4=routed; Docker writes its rules again when it starts",
    true,
  ],
  [
    /^firewalld$/,
    "for good: firewall-cmd --permanent --zone=trusted --add-source=RANGE, then --reload",
    true,
  ],
  [
    /^OpenWrt$/,
    "for good: put the bridge's network into a zone of /etc/config/firewall that is forwarded to wan, then: service firewall reload",
    true,
  ],
  [/^ufw$/, "for good: ufw route allow from RANGE", true],
  [
    /^Istio$|^Linkerd$/,
    "except the destination in the mesh (traffic.sidecar.istio.io/excludeOutboundIPRanges)",
    false,
  ],
  [
    /^NixOS$/,
    'for good: networking.firewall.checkReversePath = "loose", or extraReversePathFilterRules',
    true,
  ],
];

/** What lets a packet through that this one decided to stop. */
export function filterCure(
  context: CheckContext,
  stop: Filtered,
  senders: Senders = "from the destination",
): Cure {
  const { by } = stop.stop;
  if (stop.about !== undefined && stop.link !== undefined && by.table.family === "arp") {
    return { fix: linkFix(context, stop, stop.link), advice: [] };
  }
  const limit = usedUp(context, by);
  if (limit !== undefined) return moreOf(context, stop.place, limit);
  if (by.rule === undefined) return { fix: policyFix(context, stop), advice: [] };
  // Past its proxy a pod may do what the proxy was set up to prevent.
  if (isForProxy(by)) {
    return {
      fix: [],
      advice: [
        opaqueListener(context, by) === undefined
          ? "start the proxy that is to listen there, or except the pod from the rule"
          : "the program must set IP_TRANSPARENT on its socket (IPV6_TRANSPARENT): switch its transparent mode on; or except the pod from the rule",
      ],
    };
  }
  if (isSynProxy(by)) return pastSynProxy(context, stop);
  const product = productOfDecision(by)?.product;
  const { chain } = deciderOf(context, by);
  if (
    /^KUBE-PROXY-FIREWALL$|^KUBE-FW-/.test(chain.name) ||
    (product === "kube-proxy" && chain.name.startsWith("firewall-"))
  ) {
    return {
      fix: [],
      advice: [
        "the Service admits only the sources in its loadBalancerSourceRanges: name the pods' range there, or ask its cluster address",
      ],
    };
  }
  if (product === "kube-proxy" && by.chain.name === "cluster-ips-check") {
    const { address, port, protocol } = context.target;
    return {
      fix: [],
      advice: [
        `${address} is a Service's own address, and the Service has no ${protocol} port ${port}: see its ports: kubectl get services -A | grep -wF ${address}`,
      ],
    };
  }
  const own = OWN_WAY.find(([pattern]) => pattern.test(product ?? ""));
  if (product === undefined || product === "wayout") {
    // What drops all that was not accepted before is as good as a policy: others rely on it.
    const isPolicy = stop.place === "node" && by.base.base.hook === "forward" && isCatchAll(by.rule);
    return { fix: isPolicy ? policyFix(context, stop) : ruleFix(context, stop), advice: [] };
  }
  return {
    fix: own?.[2] === false ? [] : exemption(context, { ...stop, by }, senders),
    advice: [own?.[1] ?? `${product} may write its rule again: change it there for good`],
  };
}

/** A SYN that is tracked passes it by; where another rule leaves it untracked for the proxy, the pod is excepted there. */
function pastSynProxy(context: CheckContext, stop: Filtered): Cure {
  const { untrackedBy } = context.path;
  const decided = { by: untrackedBy ?? stop.stop.by, place: stop.place, direction: stop.direction };
  return {
    fix: pastRule(context, decided),
    advice: [
      "a SYN proxy is for connections to a server of one's own: let its rules name the link that those come in by",
    ],
  };
}

/** What is used up is there for a reason: it takes more of it, and not none. */
function moreOf(context: CheckContext, place: RepairPlace, { by, advice }: UsedUp): Cure {
  const product = productOfDecision(by)?.product;
  if (product === undefined) {
    const fix = raised(context, place, by);
    return { fix, advice: fix.length > 0 ? [advice] : ["raise the limit in the rule", advice] };
  }
  const own = OWN_WAY.find(([pattern]) => pattern.test(product));
  return {
    fix: [],
    advice: [`raise the limit where ${product} has it from`, ...(own === undefined ? [] : [own[1]])],
  };
}

/** Whether a rule asks for nothing but a protocol that connections use: of ICMP nobody makes a policy for the rest. */
function isCatchAll({ expressions }: NonNullable<Decision["rule"]>): boolean {
  const ofIcmp = expressions.some((one, index) => {
    const next = expressions[index + 1];
    return (
      one.kind === "meta" &&
      one.key === "l4proto" &&
      next?.kind === "cmp" &&
      ICMP.has(Number.parseInt(next.data, 16))
    );
  });
  if (ofIcmp) return false;
  const own = new Set(["counter", "log", "last", "immediate", "reject", "target", "cmp"]);
  return expressions.every(
    (one) =>
      own.has(one.kind) ||
      (one.kind === "meta" && (one.key === "l4proto" || one.key === "nfproto")) ||
      (one.kind === "match" && one.name === "comment"),
  );
}

const ICMP: ReadonlySet<number> = new Set([IP_PROTOCOL.icmp, IP_PROTOCOL.icmpv6]);

/** TPROXY drops what no socket takes. */
export function isForProxy({ rule }: Decision): boolean {
  return (
    rule?.expressions.some(
      (one) => one.kind === "tproxy" || (one.kind === "target" && one.name === "TPROXY"),
    ) === true
  );
}

/** Who listens at the port of a TPROXY rule, with a socket that may not take what is for others. */
export function opaqueListener({ node, target, path }: CheckContext, by: Decision): Listener | undefined {
  const port = /--on-port (\d+)|tproxy (?:ip6? )?to \S*?:(\d+)/.exec(decisionText(by));
  const wanted = Number(port?.[1] ?? port?.[2] ?? 0) || (path.left?.destinationPort ?? target.port);
  return node.view.state.listeners?.find(
    (one) => one.protocol === target.protocol && one.port === wanted && one.transparent !== true,
  );
}

/** It answers in the destination's name, to see first whether anybody is there who goes on. */
export function isSynProxy({ rule }: Decision): boolean {
  return (
    rule?.expressions.some(
      (one) => one.kind === "synproxy" || (one.kind === "target" && one.name === "SYNPROXY"),
    ) === true
  );
}

/** Accept both directions of the pod's traffic, in front of everything else in the chain whose policy drops. */
function policyFix(context: CheckContext, stop: Filtered): (Fix | undefined)[] {
  const { table, base } = stop.stop.by;
  const link = context.path.inLink?.name ?? context.path.podLink?.name ?? "br0";
  const hook = base.base.hook;
  if (hook === "forward" && stop.place === "node") {
    return [
      acceptFirst(context, stop.place, table, base, [["meta iifname", link]]),
      acceptFirst(context, stop.place, table, base, [["meta oifname", link]]),
    ];
  }
  // What else the policy keeps out stays out.
  if (stop.about === "neighbour-discovery" && stop.family === "ip6")
    return [acceptFirst(context, stop.place, table, base, [["meta l4proto", "icmpv6"]])];
  if (hook === "input" || hook === "output") {
    const decided = { by: stop.stop.by, place: stop.place, direction: stop.direction };
    const conditions = conditionsOf(context, decided, "from the destination");
    if (conditions !== undefined) return [acceptFirst(context, stop.place, table, base, conditions)];
  }
  const change = { kind: "accept-policy", place: stop.place, table, chain: base } as const;
  const [tableName, chainName] = [nftName(table.name), nftName(base.name)];
  if (tableName === undefined || chainName === undefined) return [];
  const line = command`nft ${`chain ${table.family} ${tableName} ${chainName} { policy accept ; }`}`;
  return [context.fix(stop.place, line, undefined, change)];
}

/** What is let through at the link that needs it, and nowhere else. */
export function linkFix(context: CheckContext, { stop, place }: Filtered, link: Link): (Fix | undefined)[] {
  const { table, base } = stop.by;
  const isOut = base.base.hook === "output" || base.base.hook === "postrouting";
  const side = isOut ? "meta oifname" : "meta iifname";
  const conditions: Conditions = [[side, link.name]];
  const change = { kind: "accept-first", place, table, chain: base, conditions } as const;
  return [context.fix(place, nftInsert(table, base, conditions), undefined, change)];
}

function ruleFix(context: CheckContext, stop: Filtered): (Fix | undefined)[] {
  const { table, chain, rule } = stop.stop.by;
  if (rule === undefined) return [];
  if (!isLegacy(table)) return [deleteRuleFix(context, stop.place, stop.stop.by)];
  const line = command`${legacyProgram(table)} -t ${table.name} -D ${chain.name} ${ruleNumber(stop.stop.by)}`;
  const change = { kind: "delete-filter-rule", place: stop.place, table, chain, rule } as const;
  return [context.fix(stop.place, line, undefined, change)];
}

/** A decision about the pod's packets, or about their answers. */
interface Decided {
  readonly by: Decision;
  readonly place: RepairPlace;
  readonly direction: Direction;
}

/** What a rule does to this pod's packets beside dropping them (untracked, another zone, a TTL), it does to others only. */
export function pastRule(context: CheckContext, decided: Decided): (Fix | undefined)[] {
  const own = OWN_WAY.find(([pattern]) => pattern.test(productOfDecision(decided.by)?.product ?? ""));
  return own?.[2] === false ? [] : exemption(context, decided, "from the destination");
}

/** The pair of pod and destination passes the chain that translates it, so that the next one may. */
export function pastTranslation(
  context: CheckContext,
  by: Decision,
  place: RepairPlace = "node",
): Fix | undefined {
  const decided = { by, place, direction: "out" } as const;
  const conditions = conditionsOf(context, decided, "from the destination");
  return conditions === undefined ? undefined : acceptFirst(context, place, by.table, by.base, conditions);
}

/** Another product's rule stays: this pod's packets are accepted in front of it. Only that pair, where one is known. */
export function exemption(context: CheckContext, decided: Decided, senders: Senders): (Fix | undefined)[] {
  const { table, base } = decided.by;
  if (!["ip", "ip6", "inet"].includes(table.family) || base.base.type === "nat") return [];
  const conditions = conditionsOf(context, decided, senders);
  return conditions === undefined ? [] : [acceptFirst(context, decided.place, table, base, conditions)];
}

function conditionsOf(
  { path, target, family }: CheckContext,
  { by, place, direction }: Decided,
  senders: Senders,
): Conditions | undefined {
  const { sent, left, routed, localEnd } = path;
  if (sent === undefined) return undefined;
  const { hook, priority } = by.base.base;
  // Where the NAT core of prerouting has not been yet, a packet has its addresses from the wire.
  const early =
    hook === "ingress" || place === "pod" || (hook === "prerouting" && priority < HOOK_PRIORITY.dstnat);
  // What a rule redirects has the address that it was given from there on.
  const ended = hook === "input" && direction === "out" && localEnd?.place === place;
  const behind = ended ? localEnd.address : (left ?? routed)?.destination;
  const destination = early && !ended ? target.address : (behind ?? target.address);
  const ip: "ip" | "ip6" = family === 4 ? "ip" : "ip6";
  const anywhere = senders === "from any sender" || target.address === ANYWHERE[family].address;
  if (direction === "out") {
    return [[`${ip} saddr`, sent.source], ...(anywhere ? [] : [[`${ip} daddr`, destination] as const])];
  }
  const back = early && place === "node" ? (left?.source ?? sent.source) : sent.source;
  return [...(anywhere ? [] : [[`${ip} saddr`, destination] as const]), [`${ip} daddr`, back]];
}

/** iptables' letters for what nft has words for. */
const LETTERS = {
  "meta iifname": "-i",
  "meta oifname": "-o",
  "meta l4proto": "-p",
  "ip saddr": "-s",
  "ip6 saddr": "-s",
  "ip daddr": "-d",
  "ip6 daddr": "-d",
} as const;

function acceptFirst(
  context: CheckContext,
  place: RepairPlace,
  table: Table,
  chain: Chain,
  conditions: Conditions,
): Fix | undefined {
  const change = { kind: "accept-first", place, table, chain, conditions } as const;
  return context.fix(
    place,
    isIptablesTable(table) ? iptablesInsert(table, chain, conditions) : nftInsert(table, chain, conditions),
    undefined,
    change,
  );
}

function iptablesInsert(table: Table, chain: Chain, conditions: Conditions): CommandLine | undefined {
  const plain = table.family === "ip6" ? "ip6tables" : "iptables";
  const program = isLegacy(table) ? legacyProgram(table) : plain;
  const words = conditions.map(([selector, value]) => [
    LETTERS[selector],
    selector.endsWith("name") ? iptablesInterface(value) : value,
  ]);
  if (words.some(([, value]) => value === undefined)) return undefined;
  const inTable = table.name === "filter" ? [] : ["-t", table.name];
  return command`${program} ${inTable} -I ${chain.name} ${words.flat() as string[]} -j ACCEPT`;
}

function nftInsert(table: Table, chain: Chain, conditions: Conditions): CommandLine | undefined {
  const words = conditions.map(([selector, value]) => [
    ...(selector.endsWith("name") ? selector.replace(/^meta /, "") : selector).split(" "),
    selector.endsWith("name") ? nftInterface(value) : value,
  ]);
  if (words.flat().includes(undefined)) return undefined;
  const where = [nftName(table.name), nftName(chain.name)] as const;
  return command`nft insert rule ${table.family} ${where[0]} ${where[1]} ${words.flat() as string[]} accept`;
}
