/** Which namespaces of a machine are pods of this node: those whose cable leads here, and those that should have one. */
import { NetworkNamespace } from "../kernel/namespace.ts";
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import type { Pod } from "../pods/pod.ts";

/** @param candidates every namespace with a name or a process */
export function podsOfNode(node: NetworkNamespace, candidates: readonly Pod[]): Pod[] {
  using route = Rtnetlink.open(node);
  const links = new Map(route.links({ statistics: false }).map((link) => [link.index, link]));
  return candidates.filter((pod) => {
    try {
      using namespace = NetworkNamespace.open(pod.path);
      using inside = Rtnetlink.open(namespace);
      const here = inside.links({ statistics: false }).some((link) => {
        const host = link.kind === "veth" && link.link !== undefined ? links.get(link.link) : undefined;
        return (
          host?.kind === "veth" &&
          host.link === link.index &&
          inside.namespaceId(node.fd) === link.linkNamespaceId
        );
      });
      return here || pod.attachments.length > 0;
    } catch {
      // It vanished while we looked, unless somebody promised that it would be there.
      return pod.attachments.length > 0;
    }
  });
}
