/** Firewalls of other people. The shapes are those of the products named. */
import {
  addChain,
  addRule,
  addTable,
  destroyTable,
  type Transaction,
} from "../../linux/nftables/commands.ts";
import { accept, anyOf, drop, jump, match, reject } from "../../linux/nftables/rule-builder.ts";
import type { NetworkNamespace } from "../../kernel/namespace.ts";
import type { Fault } from "./fault.ts";
import { PLAN } from "../plan.ts";
import { changeRuleset } from "./change.ts";
import { replaceResolvConf, restoreResolvConf } from "./resolv-conf.ts";

const { bridge } = PLAN.node;
const FILTER = { family: "ip", table: "filter" } as const;
const FIREWALL = { family: "inet", table: "corporate-firewall" } as const;
const FORWARD = { ...FILTER, chain: "FORWARD" } as const;

/** As iptables-nft makes it. */
function forwardChain(policy: "accept" | "drop"): Transaction {
  return [
    addTable(FILTER),
    addChain(FORWARD, { base: { type: "filter", hook: "forward", priority: 0, policy } }),
  ];
}

function firewallChain(priority: number): Transaction {
  return [
    addTable(FIREWALL),
    addChain({ ...FIREWALL, chain: "forward" }, { base: { type: "filter", hook: "forward", priority } }),
  ];
}

const without = (table: typeof FILTER | typeof FIREWALL) => (world: { readonly node: NetworkNamespace }) =>
  changeRuleset(world.node, "mending the lab", [destroyTable(table)]);

export const breakFilter: readonly Fault[] = [
  {
    name: "forward-policy-drop",
    title: "the policy of iptables' FORWARD is DROP, as Docker sets it, and no rule accepts br0",
    finding: "filter-policy-drops",
    apply: (world) => changeRuleset(world.node, "breaking the lab", forwardChain("drop")),
    mend: without(FILTER),
  },
  {
    name: "docker-user-drop",
    title: "a rule of the administrator in Docker's chain DOCKER-USER drops what comes from br0",
    finding: "filter-rule-drops",
    apply: (world) =>
      changeRuleset(world.node, "breaking the lab", [
        ...forwardChain("accept"),
        addChain({ ...FILTER, chain: "DOCKER-USER" }),
        addRule(FORWARD, { expressions: [jump("DOCKER-USER")] }),
        addRule(
          { ...FILTER, chain: "DOCKER-USER" },
          { expressions: [match("meta iifname", bridge), drop()] },
        ),
      ]),
    mend: without(FILTER),
  },
  {
    name: "firewall-drop",
    title: "another nftables table, asked after ours, drops the pods' network",
    finding: "filter-rule-drops",
    apply: (world) =>
      changeRuleset(world.node, "breaking the lab", [
        ...firewallChain(10),
        addRule(
          { ...FIREWALL, chain: "forward" },
          {
            expressions: [match("meta nfproto", "ipv4"), match("ip saddr", PLAN.podNetworkIpv4), drop()],
          },
        ),
      ]),
    mend: without(FIREWALL),
  },
  {
    name: "firewall-reject",
    title: "a firewall rejects HTTP",
    finding: "filter-rule-drops",
    apply: (world) =>
      changeRuleset(world.node, "breaking the lab", [
        ...firewallChain(-10),
        addRule(
          { ...FIREWALL, chain: "forward" },
          { expressions: [match("meta l4proto", "tcp"), match("tcp dport", 80), reject("admin-prohibited")] },
        ),
      ]),
    mend: without(FIREWALL),
  },
  {
    name: "answers-dropped",
    title: "a firewall lets requests out and drops the answers",
    finding: "filter-rule-drops",
    apply: (world) =>
      changeRuleset(world.node, "breaking the lab", [
        ...firewallChain(0),
        addRule(
          { ...FIREWALL, chain: "forward" },
          { expressions: [match("meta iifname", bridge), accept()] },
        ),
        addRule(
          { ...FIREWALL, chain: "forward" },
          {
            expressions: [
              match("meta oifname", bridge),
              match("ct state", anyOf("established", "related")),
              drop(),
            ],
          },
        ),
      ]),
    mend: without(FIREWALL),
  },
  {
    name: "names-blocked",
    title: "a firewall drops what goes to UDP port 53: addresses work, names do not",
    finding: "resolver-unreachable",
    target: { address: PLAN.internet.dnsIpv4, protocol: "udp", port: 53 },
    onlyNames: true,
    apply(world) {
      replaceResolvConf(`nameserver ${PLAN.internet.dnsIpv4}\n`);
      changeRuleset(world.node, "breaking the lab", [
        ...firewallChain(0),
        addRule(
          { ...FIREWALL, chain: "forward" },
          { expressions: [match("meta l4proto", "udp"), match("udp dport", 53), drop()] },
        ),
      ]);
    },
    mend(world) {
      without(FIREWALL)(world);
      restoreResolvConf();
    },
  },
  {
    name: "legacy-drop",
    title: "iptables-legacy, which nft does not show, drops everything in FORWARD",
    finding: "filter-rule-drops",
    needs: "iptables-legacy",
    apply: (world) => legacy(world.node, ["-I", "FORWARD", "-j", "DROP"]),
    mend: (world) => legacy(world.node, ["-F", "FORWARD"]),
  },
];

/** The one fault that another program makes: its rules are the fault. */
function legacy(namespace: NetworkNamespace, args: readonly string[]): void {
  const child = namespace.run(() =>
    Bun.spawnSync(["iptables-legacy", ...args], { stdout: "ignore", stderr: "pipe" }),
  );
  if (child.exitCode !== 0) throw new Error(`iptables-legacy ${args.join(" ")}: ${child.stderr.toString()}`);
}
