/**
 * Which link of the node a pod's link is on. A pod chooses the indexes of its links and may have namespaces of its own,
 * so that two numbers that name each other are no proof: the pod's link must lead to the node's namespace, too.
 */
import type { Link } from "../linux/route/link.ts";
import type { NamespaceState } from "./snapshot.ts";

/** The pod's side: its namespace as the node's is called there. A snapshot that does not say so is believed. */
export type Inside = Pick<NamespaceState, "nodeNamespaceId">;

/** A link of the node by its index. */
export type LinkAt = (index: number) => Link | undefined;

/** The link of the node that the pod's is on (macvlan, VLAN), or the other end of. */
export function nodeLinkOf(node: LinkAt, inside: Inside, link: Link): Link | undefined {
  const { nodeNamespaceId: id } = inside;
  if (link.link === undefined || (id !== undefined && link.linkNamespaceId !== id)) return undefined;
  return node(link.link);
}

/** The node's end of a pod's veth: both ends name each other. */
export function hostEndOf(node: LinkAt, inside: Inside, link: Link): Link | undefined {
  if (link.kind !== "veth") return undefined;
  const host = nodeLinkOf(node, inside, link);
  return host?.kind === "veth" && host.link === link.index ? host : undefined;
}
