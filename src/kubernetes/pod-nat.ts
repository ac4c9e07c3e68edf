/**
 * Who is translated: what this node's pods send to the outside, as the node; not what they send to pods of any node, nor,
 * unless it is wanted, to the nodes themselves. What the policy excludes is excluded as well. Pure.
 */
import { cidrContains, cidrsOfRange, cidrText, parseCidr, type Cidr } from "../address/cidr.ts";
import { ascending, hostCidr } from "../address/ip.ts";
import { DROPPED, normalizeIntent, podSources, type NatIntent, type NatSource } from "../nat/intent.ts";
import type { ClusterView } from "./cluster.ts";
import type { EgressPlan } from "./egress/egress-plan.ts";
import type { Led } from "./route-step.ts";

/** The owner under which the cluster's wishes stand. */
export const KUBERNETES_OWNER = "kubernetes";

export interface PodNatOptions {
  /** Whether the other nodes see the node instead of the pod. */
  readonly masqueradeToNodes: boolean;
}

/**
 * @param led where our routes lead, whether or not a Node is still there
 * @param policy what the configuration wants; its translation counts for the pods that its sources cover
 * @param egress pods that leave otherwise than the rest
 * @returns undefined while the node has no podCIDR
 */
export function podNatIntent(
  { own, peers }: ClusterView,
  led: Led,
  policy: NatIntent | undefined,
  { masqueradeToNodes }: PodNatOptions,
  egress?: EgressPlan,
): NatIntent | undefined {
  if (own.podCidrs.length === 0) return undefined;
  const nodes = [own, ...peers];
  const untranslated = [
    ...nodes.flatMap(({ podCidrs }) => podCidrs),
    ...led.destinations,
    ...(masqueradeToNodes ? [] : [...nodes.flatMap(({ addresses }) => addresses), ...led.gateways]),
    ...(policy?.untranslated ?? []),
  ];
  return normalizeIntent({
    owner: KUBERNETES_OWNER,
    sources: [...sourcesOf(own.podCidrs, policy, egress?.onlyAsNode), ...(egress?.sources ?? [])],
    untranslated: united(untranslated),
  });
}

/** @param onlyAsNode addresses that leave as the node while the rest is dropped; undefined: all do */
function sourcesOf(
  podCidrs: readonly string[],
  policy: NatIntent | undefined,
  onlyAsNode: readonly string[] | undefined,
): NatSource[] {
  if (onlyAsNode === undefined) return podCidrs.map((cidr) => sourceOf(cidr, policy));
  return [
    ...podCidrs.map((cidr) => ({ cidr, translation: DROPPED })),
    ...onlyAsNode.map((address) => sourceOf(hostCidr(address), policy)),
  ];
}

/** A policy that speaks of the pods, or of everybody, says how they leave; without one they leave as the node. */
function sourceOf(cidr: string, policy: NatIntent | undefined): NatSource {
  const { family, address, prefixLength } = parseCidr(cidr);
  const around = (policy === undefined ? [] : podSources(policy))
    .map((source) => ({ source, cidr: parseCidr(source.cidr) }))
    .filter(
      (one) =>
        one.cidr.family === family &&
        one.cidr.prefixLength <= prefixLength &&
        cidrContains(one.cidr, address),
    )
    .sort((a, b) => b.cidr.prefixLength - a.cidr.prefixLength)[0];
  return around === undefined ? { cidr, translation: { fullyRandom: true } } : { ...around.source, cidr };
}

/** The same addresses in as few prefixes as cover exactly them: a thousand nodes' podCIDRs are often one. */
function united(texts: readonly string[]): string[] {
  const cidrs = [...new Set(texts)].map((text) => parseCidr(text));
  return ([4, 6] as const).flatMap((family) => {
    const ranges: { first: bigint; last: bigint }[] = [];
    for (const { first, last } of sorted(cidrs.filter((one) => one.family === family))) {
      const before = ranges.at(-1);
      if (before !== undefined && first <= before.last + 1n) {
        if (last > before.last) before.last = last;
      } else ranges.push({ first, last });
    }
    return ranges.flatMap(({ first, last }) => cidrsOfRange(family, first, last).map(cidrText));
  });
}

function sorted(cidrs: readonly Cidr[]): Cidr[] {
  return [...cidrs].sort((a, b) => ascending(a.first, b.first));
}
