/** What can be wrong with the translation of the pods' addresses. */
import { HOOK_PRIORITY } from "../../linux/netfilter.ts";
import {
  addChain,
  addRule,
  addTable,
  destroyTable,
  type Transaction,
} from "../../linux/nftables/commands.ts";
import {
  masquerade as masqueradeStatement,
  match,
  returns,
  snat as snatTo,
} from "../../linux/nftables/rule-builder.ts";
import type { Fault, FaultWorld } from "./fault.ts";
import { PLAN } from "../plan.ts";
import { LAB_TABLE, installMasquerade } from "../forwarding-and-nat.ts";
import { changeRuleset } from "./change.ts";

/** iptables' table, where an administrator's own rules usually are. */
const NAT = { family: "ip", table: "nat" } as const;
const POSTROUTING = { ...NAT, chain: "POSTROUTING" } as const;
const HOOKED = { base: { type: "nat", hook: "postrouting", priority: HOOK_PRIORITY.srcnat } } as const;
const FROM_PODS = match("ip saddr", PLAN.podNetworkIpv4);

/** Other rules instead of ours. */
function instead(changes: Transaction): (world: FaultWorld) => void {
  return (world) =>
    changeRuleset(world.node, "breaking the lab", [destroyTable(LAB_TABLE), addTable(NAT), ...changes]);
}

function mend(world: FaultWorld): void {
  changeRuleset(world.node, "mending the lab", [destroyTable(NAT)]);
  installMasquerade(world.node, PLAN.podNetworkIpv4, PLAN.podNetworkIpv6);
}

export const breakNat: readonly Fault[] = [
  {
    name: "no-masquerade",
    title: "the ruleset is flushed, and with it the masquerade",
    finding: "nat-missing",
    apply: (world) => changeRuleset(world.node, "breaking the lab", [destroyTable(LAB_TABLE)]),
    mend,
  },
  {
    name: "no-masquerade-ipv6",
    title: "only IPv4 is masqueraded",
    finding: "nat-missing",
    family: 6,
    apply: instead([
      addChain(POSTROUTING, HOOKED),
      addRule(POSTROUTING, { expressions: [FROM_PODS, masqueradeStatement()] }),
    ]),
    mend,
  },
  {
    name: "masquerade-other-interface",
    title: "the masquerade rule names ens5, and the uplink is called eth0",
    finding: "nat-mismatch",
    apply: instead([
      addChain(POSTROUTING, HOOKED),
      addRule(POSTROUTING, {
        expressions: [FROM_PODS, match("meta oifname", "ens5"), masqueradeStatement()],
      }),
    ]),
    mend,
  },
  {
    name: "masquerade-old-network",
    title: "the masquerade rule names the network that the pods had before",
    finding: "nat-mismatch",
    apply: instead([
      addChain(POSTROUTING, HOOKED),
      addRule(POSTROUTING, { expressions: [match("ip saddr", "10.99.0.0/16"), masqueradeStatement()] }),
    ]),
    mend,
  },
  {
    name: "masquerade-unhooked",
    title: "the chain with the masquerade rule is there, but nothing leads to it",
    finding: "nat-unreachable",
    apply: instead([
      addChain(POSTROUTING, HOOKED),
      addChain({ ...NAT, chain: "PODS" }),
      addRule({ ...NAT, chain: "PODS" }, { expressions: [FROM_PODS, masqueradeStatement()] }),
    ]),
    mend,
  },
  {
    name: "masquerade-excluded",
    title: "a rule before the masquerade returns for 198.51.100.0/24",
    finding: "nat-excluded",
    apply: instead([
      addChain(POSTROUTING, HOOKED),
      addRule(POSTROUTING, { expressions: [match("ip daddr", "198.51.100.0/24"), returns()] }),
      addRule(POSTROUTING, { expressions: [FROM_PODS, masqueradeStatement()] }),
    ]),
    mend,
  },
  {
    name: "snat-lost-address",
    title: "SNAT to an address that the node does not have",
    finding: "nat-foreign-address",
    apply: instead([
      addChain(POSTROUTING, HOOKED),
      addRule(POSTROUTING, { expressions: [FROM_PODS, snatTo("203.0.113.99")] }),
    ]),
    mend,
  },
];
