/** The two things that give the lab's pods a way out, by the same rooms that `wayout` uses on a real node. */
import { WayoutError } from "../error.ts";
import { Nftables } from "../kernel/nftables/nftables.ts";
import { ruleText } from "../linux/nftables/text/ruleset.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { enableForwarding } from "../forwarding/forwarding.ts";
import type { NatChange } from "../nat/backend.ts";
import { masqueradeIntent } from "../nat/intent.ts";
import { BACKENDS, DEFAULT_BACKEND } from "../nat/backends/backends.ts";
import { removeElsewhere } from "../nat/installed.ts";
import { openNat } from "../nat/open.ts";
import { PLAN } from "./plan.ts";
import type { StoryEvidence } from "./story.ts";

const OWNER = "lab";
/** Where the rules of the lab's backend lie, to be shown and to be broken. */
export const LAB_TABLE = BACKENDS[DEFAULT_BACKEND].table!;

/** Makes the node a router for one family. Returns what changed, in words. */
export function forwardPackets(node: NetworkNamespace, family: 4 | 6): string {
  return enableForwarding(node, { ipv4: family === 4, ipv6: family === 6 })
    .map(({ name, before, after }) => `${name}: ${before} → ${after}`)
    .join("; ");
}

/** MASQUERADE for these networks, instead of whatever the lab had before. */
export function installMasquerade(node: NetworkNamespace, ...cidrs: readonly string[]): string {
  using nat = openNat(DEFAULT_BACKEND, node);
  return changeText(nat.apply(masqueradeIntent(OWNER, cidrs)), `masquerade for ${cidrs.join(" and ")}`);
}

/**
 * The same by eBPF programs, and no rule. Returns why this user or machine cannot have them, in words; undefined when it can.
 */
export function installPrograms(node: NetworkNamespace, ...cidrs: readonly string[]): string | undefined {
  try {
    using nat = openNat("ebpf", node);
    nat.apply(masqueradeIntent(OWNER, cidrs));
  } catch (error) {
    if (error instanceof WayoutError && error.kind === "machine") return error.said;
    throw error;
  }
  removeElsewhere(node, OWNER, "ebpf");
  return undefined;
}

/** Takes the programs away again: what has a name in a file system of the kernel's does not end with its namespace. */
export function removePrograms(node: NetworkNamespace): void {
  using nat = openNat("ebpf", node);
  nat.remove();
}

/** SNAT to a fixed address, instead of whatever the lab had before. */
export function installSnat(node: NetworkNamespace, cidr: string, address: string): string {
  using nat = openNat(DEFAULT_BACKEND, node);
  const translation = { snat: { first: address, last: address }, fullyRandom: false };
  return changeText(nat.apply(masqueradeIntent(OWNER, [cidr], { translation })), `snat to ${address}`);
}

function changeText(change: NatChange, what: string): string {
  return `${what} ${change.changed ? "installed" : "was there already"}`;
}

/** Everything a pod needs: both families. */
export function forwardAndMasquerade(node: NetworkNamespace): void {
  for (const family of [4, 6] as const) forwardPackets(node, family);
  installMasquerade(node, PLAN.podNetworkIpv4, PLAN.podNetworkIpv6);
}

/** The rules that translate, as the kernel has them now, with their counters. */
export function natRuleEvidence(node: NetworkNamespace): StoryEvidence {
  using nftables = Nftables.open(node);
  const table = nftables.table(LAB_TABLE);
  if (table === undefined) return { source: `table ${LAB_TABLE.family} ${LAB_TABLE.table}`, lines: [] };
  const lines = table.chains.flatMap((chain) =>
    chain.rules
      .filter((rule) => rule.expressions.some(({ kind }) => kind === "masq" || kind === "nat"))
      .map((rule) => `${chain.name}: ${ruleText(rule, table)} # handle ${rule.handle}`),
  );
  return { source: `table ${LAB_TABLE.family} ${LAB_TABLE.table}`, lines };
}
