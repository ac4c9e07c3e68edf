/** How a pod hangs on its node: which cable, where its other end is, and what that end is plugged into. */
import { command } from "../text/command.ts";
import { WayoutError } from "../error.ts";
import { NetworkNamespace } from "../kernel/namespace.ts";
import type { Link } from "../linux/route/link.ts";
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { listPods } from "./inventory.ts";
import type { Pod } from "./pod.ts";

/** A pod's interface and the other end of it. */
export interface PodWiring {
  /** The interface in the pod. */
  readonly podLink: Link;
  /** Its other end on the node; absent for interfaces that are no pair (macvlan). */
  readonly hostLink?: Link;
  /** The bridge that the other end is a port of; absent for a point-to-point link. */
  readonly bridge?: Link;
}

/**
 * Finds the other end of an interface of the pod.
 * @param candidates namespaces that may be the node, the likeliest first
 * @returns the wiring, and which of the candidates is the node
 */
export function wiringOf(
  pod: NetworkNamespace,
  interfaceName: string,
  candidates: readonly NetworkNamespace[],
): { readonly wiring: PodWiring; readonly node: NetworkNamespace } | undefined {
  using inside = Rtnetlink.open(pod);
  const podLink = inside.link(interfaceName);
  if (podLink === undefined) return undefined;
  const node = nodeOf(inside, podLink, candidates);
  if (node === undefined || podLink.link === undefined) return undefined;
  using outside = Rtnetlink.open(node);
  const other = outside.link(podLink.link);
  // A macvlan's `link` is the interface it sits on, not the other end of a cable.
  if (other === undefined || podLink.kind !== "veth") return { wiring: { podLink }, node };
  const bridge = other.master === undefined ? undefined : outside.link(other.master);
  return {
    wiring: { podLink, hostLink: other, ...(bridge === undefined ? {} : { bridge }) },
    node,
  };
}

/** The namespace that the number in IFLA_LINK_NETNSID stands for, seen from inside the pod. */
function nodeOf(
  inside: Rtnetlink,
  podLink: Link,
  candidates: readonly NetworkNamespace[],
): NetworkNamespace | undefined {
  const number = podLink.linkNamespaceId;
  if (number === undefined) return undefined;
  return candidates.find((candidate) => inside.namespaceId(candidate.fd) === number);
}

/**
 * The namespace that a pod's cable leads to: this one, as a rule; another pod's in a world of namespaces inside one
 * machine. The caller closes it.
 * @throws WayoutError pod-without-uplink when the other end is in none of the namespaces that can be seen
 */
export function openNodeOf(pod: Pod, namespace: NetworkNamespace, interfaceName: string): NetworkNamespace {
  const here = NetworkNamespace.current();
  if (wiringOf(namespace, interfaceName, [here]) !== undefined) return here;
  here.close();
  for (const other of listPods()) {
    if (other.inode === pod.inode) continue;
    const candidate = tryOpen(other.path);
    if (candidate === undefined) continue;
    if (wiringOf(namespace, interfaceName, [candidate]) !== undefined) return candidate;
    candidate.close();
  }
  throw new WayoutError({
    code: "pod-without-uplink",
    kind: "broken",
    doing: `following ${interfaceName} of ${pod.name} to its node`,
    said: "its other end is in no namespace that can be seen from here",
    todo: `${command`ip -d link show dev ${interfaceName}` ?? "ip -d link"} (in the pod) tells what it is; run this where its other end lives.`,
  });
}

function tryOpen(path: string): NetworkNamespace | undefined {
  try {
    return NetworkNamespace.open(path);
  } catch {
    return undefined;
  }
}
