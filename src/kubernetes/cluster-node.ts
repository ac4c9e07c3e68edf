/** A Node of the API as far as the network needs it. Pure. */
import { cidrText, parseCidr } from "../address/cidr.ts";
import { AddressError, canonicalIp, ipFamily, type IpFamily } from "../address/ip.ts";

export interface ClusterNode {
  readonly name: string;
  /** Another one: the node was deleted and registered again. */
  readonly uid: string;
  /** Canonical prefixes, the primary family first; empty: none was given to it yet, or ever. */
  readonly podCidrs: readonly string[];
  /** Its addresses of type InternalIP, canonical, in their order. */
  readonly addresses: readonly string[];
  /** What kubelet says of itself. */
  readonly ready: boolean;
  /** Since when it is there, RFC 3339; empty when it does not say. */
  readonly created: string;
  /** What it says and cannot be used, as sentences. */
  readonly problems: readonly string[];
}

/** One of each family at most: so the API has it, and a third would be a mistake. */
const MOST_POD_CIDRS = 2;
/** More pods than any node can have, and no node is given half of the internet. */
const SHORTEST_PREFIX: Readonly<Record<IpFamily, number>> = { 4: 8, 6: 32 };

/** undefined for what has no name. */
export function clusterNodeOf(
  object: unknown,
): { readonly name: string; readonly value: ClusterNode } | undefined {
  const { metadata, spec, status } = (object ?? {}) as {
    readonly metadata?: {
      readonly name?: unknown;
      readonly uid?: unknown;
      readonly creationTimestamp?: unknown;
    };
    readonly spec?: { readonly podCIDR?: unknown; readonly podCIDRs?: unknown };
    readonly status?: { readonly addresses?: unknown; readonly conditions?: unknown };
  };
  const name = metadata?.name;
  if (typeof name !== "string" || name === "") return undefined;
  const problems: string[] = [];
  const value: ClusterNode = {
    name,
    uid: textOf(metadata?.uid),
    created: textOf(metadata?.creationTimestamp),
    podCidrs: podCidrsOf(spec, problems),
    addresses: addressesOf(status?.addresses, problems),
    ready: isReady(status?.conditions),
    problems,
  };
  return { name, value };
}

export function isSameNode(a: ClusterNode, b: ClusterNode): boolean {
  return (
    a.uid === b.uid &&
    a.ready === b.ready &&
    a.created === b.created &&
    isSameList(a.podCidrs, b.podCidrs) &&
    isSameList(a.addresses, b.addresses) &&
    isSameList(a.problems, b.problems)
  );
}

/** Its first address of the family: the one under which the others reach it. */
export function addressIn(node: ClusterNode, family: IpFamily): string | undefined {
  return node.addresses.find((address) => ipFamily(address) === family);
}

function podCidrsOf(
  spec: { readonly podCIDR?: unknown; readonly podCIDRs?: unknown } | undefined,
  problems: string[],
): string[] {
  // Before 1.16 there was one, under the older name.
  const given = fewOf(spec?.podCIDRs ?? (spec?.podCIDR === undefined ? [] : [spec.podCIDR]));
  const cidrs = given.flatMap((text) => {
    if (text === "") return [];
    try {
      const cidr = parseCidr(String(text));
      if (cidr.prefixLength >= SHORTEST_PREFIX[cidr.family]) return [cidrText(cidr)];
      problems.push(`its podCIDR ${String(text)} is too wide to be one node's`);
    } catch (error) {
      if (!(error instanceof AddressError)) throw error;
      problems.push(`its podCIDR is no prefix: ${error.message}`);
    }
    return [];
  });
  if (cidrs.length > MOST_POD_CIDRS)
    problems.push(`it has ${cidrs.length} podCIDRs, of which the first ${MOST_POD_CIDRS} are used`);
  return cidrs.slice(0, MOST_POD_CIDRS);
}

function addressesOf(value: unknown, problems: string[]): string[] {
  return fewOf(value).flatMap((one) => {
    const { type, address } = (one ?? {}) as { readonly type?: unknown; readonly address?: unknown };
    if (type !== "InternalIP") return [];
    try {
      return [canonicalIp(String(address))];
    } catch (error) {
      if (!(error instanceof AddressError)) throw error;
      problems.push(`its InternalIP is no address: ${error.message}`);
      return [];
    }
  });
}

function isReady(value: unknown): boolean {
  return listOf(value).some((one) => {
    const { type, status } = (one ?? {}) as { readonly type?: unknown; readonly status?: unknown };
    return type === "Ready" && status === "True";
  });
}

/** Each of them may be told: a node has a handful of prefixes and addresses, and no more are looked at. */
function fewOf(value: unknown): readonly unknown[] {
  return listOf(value).slice(0, MOST_LOOKED_AT);
}
const MOST_LOOKED_AT = 100;

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function isSameList(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((one, index) => one === b[index]);
}
