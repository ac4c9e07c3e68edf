/** A pod's link to its node: a veth pair, one end in the pod, the other in a bridge (or alone, point-to-point). */
import type { AnyRequest } from "../linux/netlink/message.ts";
import { parseCidr } from "../address/cidr.ts";
import { WayoutError } from "../error.ts";
import { namespaceInode, type NetworkNamespace } from "../kernel/namespace.ts";
import type { LinkState } from "../linux/route/link-state.ts";
import { createVethRequest, setLinkRequest } from "../linux/route/link-requests.ts";
import { LinkRtnetlink } from "../kernel/route/link-rtnetlink.ts";
import { networkFailure } from "./failure.ts";
import { checkInterfaceName } from "./interface-name.ts";
import {
  announce,
  awaitReady,
  isThere,
  raiseLoopback,
  settleHostEnd,
  settlePodEnd,
  settlePointToPoint,
  settleVlans,
  type Work,
} from "./link-ends.ts";
import type { PodLinkIntent } from "./pod-link-intent.ts";
import { Undo } from "./undo.ts";
import { hostVethName } from "../naming/names.ts";

export type { PodLinkIntent, PodRoute } from "./pod-link-intent.ts";

export interface PodLink {
  /** Both ends, set up. */
  readonly host: LinkState;
  readonly pod: LinkState;
  /** Whether this call made the pair; false when it was there and was completed. */
  readonly created: boolean;
  /** Whether the pod's loopback was down before. */
  readonly raisedLoopback: boolean;
}

/**
 * Makes the link, or nothing: when a step fails, all that was made is taken away again.
 * @param podRoute a connection that is open in the pod's namespace already, to be used instead of a new one
 * @throws WayoutError own-namespace, interface-exists, interface-missing, bad-interface-name, bad-address, address-in-use,
 *   kernel-lacks-feature, no-privilege
 */
export function connectPod(
  node: LinkRtnetlink,
  namespace: NetworkNamespace,
  intent: PodLinkIntent,
  podRoute?: LinkRtnetlink,
): PodLink {
  const doing = `connecting ${intent.container} to network ${intent.network}`;
  const hostName = hostNameOf(intent);
  checkInterfaceName(intent.interfaceName, doing);
  checkInterfaceName(hostName, doing);
  const undo = new Undo();
  let pod = podRoute;
  try {
    if (isOwn(node, namespace)) throw ownNamespace(doing, intent);
    const addresses = intent.addresses.map((text) => parseCidr(text, "keep"));
    pod ??= LinkRtnetlink.open(namespace);
    return build({ node, pod, namespace, intent, hostName, addresses, undo });
  } catch (error) {
    throw networkFailure(doing, error, undo.run());
  } finally {
    if (podRoute === undefined) pod?.close();
  }
}

/** A pod's end whose other end has not the name that we give, as another plugin makes it. */
export interface UnknownEnd {
  readonly mac: string | undefined;
  /** What the node's end says of itself; undefined when the other end is not on this node, or says nothing. */
  readonly alias: string | undefined;
  /** Without prefix. Asked for only when it is needed. */
  addresses(): string[];
}

type LinkNames = Pick<PodLinkIntent, "network" | "container" | "interfaceName" | "hostName">;

/**
 * Takes the link away, with all that belongs to it. False when there was none. An end that is no veth is left
 * alone: it is not ours.
 * @param namespace undefined when the pod's namespace is gone
 */
export function disconnectPod(
  node: LinkRtnetlink,
  namespace: NetworkNamespace | undefined,
  intent: LinkNames,
): boolean {
  return removeHostEnd(node, intent) || removePodEnd(node, namespace, intent);
}

/** The same by the name that we give the node's end. */
export function removeHostEnd(node: LinkRtnetlink, intent: LinkNames): boolean {
  return disconnecting(intent, () => {
    const host = node.linkState(hostNameOf(intent));
    return host?.kind === "veth" && node.deleteLink(host.index);
  });
}

/**
 * The same by the pod's end.
 * @param isMeant decides about an interface of the pod's that has the right name. The path of a namespace may lead to
 *   another pod by now (/proc/PID/ns/net), so the name alone proves nothing.
 */
export function removePodEnd(
  node: LinkRtnetlink,
  namespace: NetworkNamespace | undefined,
  intent: LinkNames,
  isMeant: (end: UnknownEnd) => boolean = () => true,
): boolean {
  return disconnecting(intent, () => {
    // In the node's own namespace an interface of that name is the node's.
    if (namespace === undefined || isOwn(node, namespace)) return false;
    // The host's end may have been made under another name, by another plugin.
    using pod = LinkRtnetlink.open(namespace);
    const end = pod.linkState(intent.interfaceName);
    if (end?.kind !== "veth" || !isMeant(unknownEnd(node, pod, namespace, end))) return false;
    return pod.deleteLink(end.index);
  });
}

function disconnecting(intent: LinkNames, remove: () => boolean): boolean {
  try {
    return remove();
  } catch (error) {
    throw networkFailure(`disconnecting ${intent.container} from network ${intent.network}`, error);
  }
}

function unknownEnd(
  node: LinkRtnetlink,
  pod: LinkRtnetlink,
  namespace: NetworkNamespace,
  end: LinkState,
): UnknownEnd {
  const host = end.link === undefined ? undefined : node.linkState(end.link);
  const isPeer = host !== undefined && isPair({ node, namespace }, host, end);
  return {
    mac: end.mac,
    alias: isPeer ? host.alias : undefined,
    addresses: () => pod.addresses({ interface: end.index }).map(({ address }) => address),
  };
}

/** Whether the pod's namespace is the node's. */
function isOwn(node: LinkRtnetlink, namespace: NetworkNamespace): boolean {
  return namespace.inode === (node.namespace?.inode ?? namespaceInode("/proc/thread-self/ns/net"));
}

function ownNamespace(doing: string, intent: PodLinkIntent): WayoutError {
  return new WayoutError({
    code: "own-namespace",
    kind: "usage",
    doing,
    said: `the network namespace of ${intent.container} is the node's own`,
    todo: "A pod with host networking needs no network of its own.",
  });
}

function hostNameOf(intent: LinkNames): string {
  return intent.hostName ?? hostVethName(intent.network, intent.container, intent.interfaceName);
}

function build(work: Work): PodLink {
  const { node, pod, intent } = work;
  const raisedLoopback = raiseLoopback(work);
  const created = makePair(work);
  const end = present(pod, intent.interfaceName);
  if (!created) adopt(work, end);
  settleHostEnd(work);
  if (intent.leaveDown !== true) settlePodEnd(work, end, created);
  const ends = awaitReady(work, () => ({
    host: present(node, work.hostName),
    pod: present(pod, intent.interfaceName),
  }));
  settleVlans(work, ends.host);
  if (intent.bridge === undefined) settlePointToPoint(work, ends.host);
  if (intent.leaveDown !== true) announce(work, end);
  return { ...ends, created, raisedLoopback };
}

/** Both ends in one message, each in its namespace and under its final name. False when they were there. */
function makePair(work: Work): boolean {
  const { node, pod, namespace, intent, hostName, undo } = work;
  const mtu = intent.mtu === undefined ? {} : { mtu: intent.mtu };
  const request = createVethRequest({
    name: hostName,
    ...mtu,
    ...(intent.bridge === undefined ? {} : { master: intent.bridge }),
    peer: {
      name: intent.interfaceName,
      namespaceFd: namespace.fd,
      ...mtu,
      ...(intent.mac === undefined ? {} : { mac: intent.mac }),
    },
  });
  // In one datagram, which the kernel carries out whole: a death in between leaves no end without its alias. It would
  // carry out the second part for a stranger's interface of that name, too, hence the look before.
  const label = intent.alias === undefined ? [] : [setLinkRequest(hostName, { alias: intent.alias })];
  const there = label.length > 0 && node.linkState(hostName) !== undefined;
  const errors = there ? undefined : createPair(work, [request, ...label]);
  const error = errors?.get(0);
  if (errors === undefined || error !== undefined) {
    if (error !== undefined && !isThere(error)) throw withoutBridge(work, error);
    if (intent.adopt === true && node.linkState(hostName) !== undefined) return false;
    throw taken(
      pod.linkState(intent.interfaceName) === undefined ? hostName : intent.interfaceName,
      intent,
      error,
    );
  }
  undo.note(`interface ${hostName}`, () => node.deleteLink(hostName));
  for (const refusal of errors.values()) throw refusal;
  return true;
}

/** For a bridge that is gone the kernel says no more than EINVAL. */
function withoutBridge({ node, intent }: Work, error: Error): Error {
  if (intent.bridge === undefined || node.linkState(intent.bridge) !== undefined) return error;
  return missing(`the bridge (link ${intent.bridge})`, error);
}

function createPair(work: Work, requests: readonly AnyRequest[]): Map<number, Error> {
  try {
    return work.node.batchResults(requests);
  } catch (error) {
    // No refusal, but an answer that got lost: the pair may be there.
    work.undo.note(`interface ${work.hostName}`, () => deletePair(work));
    throw error;
  }
}

/** Deletes the host's end if it is one end of a pair between just these two names. */
function deletePair(work: Work): void {
  const host = work.node.linkState(work.hostName);
  const end = work.pod.linkState(work.intent.interfaceName);
  if (host !== undefined && end !== undefined && isPair(work, host, end)) work.node.deleteLink(host.index);
}

function taken(name: string, intent: PodLinkIntent, cause: unknown): WayoutError {
  const where = name === intent.interfaceName ? `in ${intent.container}` : "on this node";
  return new WayoutError({
    code: "interface-exists",
    kind: "broken",
    doing: `connecting ${intent.container} to network ${intent.network}`,
    said: `there is an interface ${name} ${where} already`,
    todo: "Disconnect it first, or choose another interface name.",
    cause,
    details: { interface: name },
  });
}

function present(route: LinkRtnetlink, name: string): LinkState {
  const link = route.linkState(name);
  if (link === undefined) throw missing(`interface ${name}`);
  return link;
}

function missing(what: string, cause?: unknown): WayoutError {
  return new WayoutError({
    code: "interface-missing",
    kind: "broken",
    doing: `reading ${what}`,
    said: "it is not there",
    todo: "Another program removed or renamed it meanwhile: try again.",
    cause,
  });
}

/** What is to be completed must be one veth pair between just these two names. */
function adopt(work: Work, end: LinkState): void {
  const { node, intent } = work;
  const host = present(node, work.hostName);
  if (!isPair(work, host, end)) throw taken(host.name, intent, undefined);
  if (intent.bridge !== undefined && host.master !== intent.bridge) {
    node.setLink(host.index, { master: intent.bridge });
  }
}

function isPair(
  { node, namespace }: Pick<Work, "node" | "namespace">,
  host: LinkState,
  end: LinkState,
): boolean {
  return (
    host.kind === "veth" &&
    end.kind === "veth" &&
    host.link === end.index &&
    end.link === host.index &&
    (host.linkNamespaceId === undefined || host.linkNamespaceId === node.namespaceId(namespace.fd))
  );
}
