/** As whom the pods of this node leave that shall not leave as the node. Pure. */
import { cidrContains, parseCidr } from "../../address/cidr.ts";
import {
  ascending,
  canonicalIp,
  familyOf,
  ipFamily,
  isIp,
  type IpFamily,
  hostCidr,
} from "../../address/ip.ts";
import { DROPPED, type NatSource } from "../../nat/intent.ts";
import type { EgressGrants } from "./grants.ts";

/** On a namespace, or on a pod where the grants say so: one address a family, with a comma between. */
export const EGRESS_ANNOTATION = "wayout.dev/egress-address";

export interface EgressPod {
  readonly namespace: string;
  readonly name: string;
  /** Canonical; empty until kubelet has told them. */
  readonly addresses: readonly string[];
  readonly annotation: string | undefined;
  /** RFC 3339. */
  readonly created: string;
  /** It has no network any more, or never one of its own. */
  readonly isOver: boolean;
}

export interface EgressFacts {
  readonly pods: readonly EgressPod[];
  /** The annotation of each namespace that has one. */
  readonly namespaces: ReadonlyMap<string, string>;
  readonly podCidrs: readonly string[];
  /** The node's own addresses. */
  readonly addresses: ReadonlySet<string>;
}

export interface EgressPlan {
  /** One for each address of a pod that leaves otherwise than the rest. */
  readonly sources: readonly NatSource[];
  /**
   * Addresses of pods that leave as the node while everything else of its podCIDRs is dropped; undefined while nothing is. A pod
   * that asks for an address is starting, and nobody knows yet which it has among the node's.
   */
  readonly onlyAsNode: readonly string[] | undefined;
  /** Why pods do not leave as they ask, as sentences. */
  readonly problems: readonly string[];
}

export function egressPlan(facts: EgressFacts, grants: EgressGrants): EgressPlan {
  const sources = new Map<string, NatSource>();
  const problems = new Set<string>();
  const plain: string[] = [];
  let starting = false;
  const own = facts.podCidrs.map((text) => parseCidr(text));
  const families = [...new Set(own.map(({ family }) => family))];
  // Where two have one address, for one of them has gone and that is not told yet, the younger has it.
  const pods = facts.pods.filter(({ isOver }) => !isOver);
  for (const pod of pods.sort((a, b) => ascending(a.created, b.created))) {
    const wish = (grants.pods ? pod.annotation : undefined) ?? facts.namespaces.get(pod.namespace);
    const here = pod.addresses.filter((address) => own.some((cidr) => cidrContains(cidr, address)));
    if (wish === undefined) {
      plain.push(...here);
      for (const address of here) sources.delete(hostCidr(address));
      continue;
    }
    if (pod.addresses.length === 0) starting = true;
    for (const family of families) {
      const { snat, problem } = judged(wish, family, pod.namespace, facts.addresses, grants);
      if (problem !== undefined) problems.add(`namespace ${pod.namespace}: ${problem}`);
      if (problem !== undefined && grants.fallback === "node") continue;
      const translation =
        snat === undefined ? DROPPED : { snat: { first: snat, last: snat }, fullyRandom: true };
      for (const address of here.filter((one) => ipFamily(one) === family)) {
        const cidr = hostCidr(address);
        sources.set(cidr, { cidr, translation });
      }
    }
  }
  const taken = new Set(sources.keys());
  return {
    sources: [...sources.values()],
    onlyAsNode:
      starting && grants.fallback === "drop"
        ? plain.filter((address) => !taken.has(hostCidr(address)))
        : undefined,
    problems: [...problems].sort(),
  };
}

/** The address to leave with, or why there is none. */
function judged(
  wish: string,
  family: IpFamily,
  namespace: string,
  addresses: ReadonlySet<string>,
  { isGranted, fallback }: EgressGrants,
): { readonly snat?: string; readonly problem?: string } {
  const consequence =
    fallback === "drop"
      ? `what its pods send outside over IPv${family} is dropped`
      : `its pods leave as the node over IPv${family}`;
  const words = wish.split(/[\s,]+/).filter((word) => word !== "");
  const bad = words.find((word) => !isIp(word));
  if (bad !== undefined || words.length === 0)
    return {
      problem: `${EGRESS_ANNOTATION} says "${wish.slice(0, 80)}", which is no address: ${consequence}`,
    };
  const [address, second] = words.map((word) => canonicalIp(word)).filter((one) => familyOf(one) === family);
  if (address === undefined)
    return { problem: `${EGRESS_ANNOTATION} names no address of IPv${family}: ${consequence}` };
  if (second !== undefined)
    return { problem: `${EGRESS_ANNOTATION} names more than one address of IPv${family}: ${consequence}` };
  if (!isGranted(namespace, address))
    return { problem: `the egress address ${address} is not granted to it: ${consequence}` };
  if (!addresses.has(address))
    return { problem: `its egress address ${address} is not on this node: ${consequence}` };
  return { snat: address };
}
