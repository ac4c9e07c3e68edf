/** Who has which address, asked in the namespaces themselves. */
import { addressOf, canonicalIp } from "../address/ip.ts";
import { namespaceInode, NetworkNamespace, OWN_NAMESPACE } from "../kernel/namespace.ts";
import { podRoute } from "./pod-socket.ts";
import type { Pod, PodAttachment } from "./pod.ts";

/** A pod's addresses now, asked in its namespace: global ones, without prefix. Empty when it cannot be entered. */
export function podAddresses(pod: Pick<Pod, "path">): string[] {
  return addressesAt(pod.path) ?? [];
}

/**
 * The number of the namespace that an attachment was made in; undefined when it is gone. A path by a process may lead to
 * another pod by now, or to the node: then none of its addresses is there.
 */
export function namespaceOf({
  netns,
  addresses,
}: Pick<PodAttachment, "netns" | "addresses">): number | undefined {
  const inode = netns === "" ? undefined : namespaceInode(netns);
  if (inode === undefined || !/^\/proc\/\d+\//.test(netns)) return inode;
  if (inode === namespaceInode(OWN_NAMESPACE)) return undefined;
  const there = addressesAt(netns);
  const isIts =
    there === undefined ||
    addresses.length === 0 ||
    addresses.some((text) => there.includes(canonicalIp(addressOf(text))));
  return isIts ? inode : undefined;
}

/** Global ones; undefined where this user may not look. */
function addressesAt(path: string): string[] | undefined {
  try {
    using namespace = NetworkNamespace.open(path);
    using route = podRoute(namespace);
    return route
      .addresses()
      .filter((address) => address.scope === "global")
      .map((address) => address.address);
  } catch {
    return undefined;
  }
}
