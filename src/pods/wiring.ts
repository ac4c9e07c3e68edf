/** How a pod is attached to its node: its veth, where the other end is, and which bridge that end is a port of. */
import { command } from "../text/command.ts";
import { WayoutError } from "../error.ts";
import { NetworkNamespace } from "../kernel/namespace.ts";
import type { Link } from "../linux/route/link.ts";
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { listPods } from "./inventory.ts";
import type { Pod } from "./pod.ts";
import { podRoute } from "./pod-socket.ts";
import { present } from "../present.ts";
import { isDefaultCidr } from "../address/ip.ts";

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
  using inside = podRoute(pod);
  const podLink = inside.link(interfaceName);
  if (podLink === undefined) return undefined;
  const node = nodeOf(inside, podLink, candidates);
  if (node === undefined || podLink.link === undefined) return undefined;
  using outside = Rtnetlink.open(node);
  const other = outside.link(podLink.link);
  // A macvlan's `link` is the interface it sits on, not the other end of a veth.
  if (other === undefined || podLink.kind !== "veth") return { wiring: { podLink }, node };
  const bridge = other.master === undefined ? undefined : outside.link(other.master);
  return {
    wiring: present({ podLink, hostLink: other, bridge }),
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
 * The namespace that a pod's veth leads to: this one, as a rule; another pod's in a world of namespaces inside one
 * machine. The caller closes it.
 * @param interfaceName the interface to follow; when absent, those by which the pod could leave, the likeliest first
 * @throws WayoutError pod-without-uplink when the other end is in none of the namespaces that can be seen
 */
export function openNodeOf(pod: Pod, namespace: NetworkNamespace, interfaceName?: string): NetworkNamespace {
  const names = interfaceName === undefined ? waysOutOf(pod, namespace) : [interfaceName];
  const leadsTo = (candidate: NetworkNamespace): boolean =>
    names.some((name) => wiringOf(namespace, name, [candidate]) !== undefined);
  const here = NetworkNamespace.current();
  if (leadsTo(here)) return here;
  here.close();
  for (const other of listPods()) {
    if (other.inode === pod.inode) continue;
    const candidate = tryOpen(other.path);
    if (candidate === undefined) continue;
    if (leadsTo(candidate)) return candidate;
    candidate.close();
  }
  const name = names[0] ?? "the interface";
  throw new WayoutError({
    code: "pod-without-uplink",
    kind: "broken",
    doing: `following ${name} of ${pod.name} to its node`,
    said: "its other end is in no namespace that can be seen from here",
    todo: `${command`ip -d link show dev ${names[0] ?? ""}` ?? "ip -d link"} (in the pod) shows what it is; run wayout in the namespace that has its other end.`,
  });
}

/** Names of interfaces: those that the runtime made, those with a default route, then the others. */
function waysOutOf(pod: Pod, namespace: NetworkNamespace): string[] {
  using inside = podRoute(namespace);
  const links = inside.links({ statistics: false }).filter((link) => link.layer !== "loopback");
  const defaults = inside
    .routes()
    .filter(({ destination }) => isDefaultCidr(destination))
    .flatMap((route) => route.nextHops?.map((hop) => hop.interface) ?? [route.interface]);
  const ofDefaults = defaults.flatMap((index) => links.find((link) => link.index === index)?.name ?? []);
  const made = pod.attachments.map((one) => one.interface);
  return [...new Set([...made, ...ofDefaults, ...links.map((link) => link.name)])];
}

function tryOpen(path: string): NetworkNamespace | undefined {
  try {
    return NetworkNamespace.open(path);
  } catch {
    return undefined;
  }
}
