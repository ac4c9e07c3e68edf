/** Undoes attachments: the whole of one, half of one, or what a killed run left. */
import { parseCidr } from "../address/cidr.ts";
import { command } from "../text/command.ts";
import { messageOf, WayoutError } from "../error.ts";
import {
  deleteNamedNamespace,
  namedNamespaces,
  removeNamespaceDirectory,
} from "../kernel/named-namespace.ts";
import { type NetworkNamespace } from "../kernel/namespace.ts";
import { isLack } from "../nat/backends/backends.ts";
import { openNat } from "../nat/open.ts";
import { givenUpBecause, podRoute } from "../pods/pod-socket.ts";
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { writeSysctl } from "../kernel/sysctl.ts";
import { removeBridge } from "../network/bridge.ts";
import { disconnectPod } from "../network/pod-link.ts";
import { networkOf, openPod, withAttachment } from "./build.ts";
import type { AttachmentNode } from "./node.ts";
import type { AttachmentRecord, NetworkRecord, NodeRecord } from "./record.ts";
import { removeResolver } from "./resolver.ts";
import { acceptRaOf } from "./plan.ts";
import { restoreSettings } from "./settings.ts";
import { natIntentOf } from "./translation.ts";
import { bridgeOwner } from "../naming/names.ts";

export interface TakeBackOptions {
  /** Leave a namespace that we made. */
  readonly keepNamespace?: boolean;
}

export interface TakenBack {
  /** What is remembered now; written already. */
  readonly record: NodeRecord;
  /** What was left on purpose, for the person to know. */
  readonly notes: readonly string[];
}

/** Takes back what killed runs left half-made, but for one that another process looks after. Returns what is left. */
export function recover(node: AttachmentNode, record: NodeRecord, except?: AttachmentRecord): NodeRecord {
  let known = record;
  for (const attachment of record.attachments) {
    if (attachment.phase !== "attached" && attachment !== except)
      known = takeBack(node, known, attachment).record;
  }
  return known;
}

/**
 * Undoes an attachment. With the last attachment of a bridge its rules and the bridge go, with the last of the node the
 * forwarding becomes what it was before. Every step is tried, whatever became of the others; when one failed the record
 * stays, so that the next run tries again.
 * @throws WayoutError detach-incomplete
 */
export function takeBack(
  node: AttachmentNode,
  record: NodeRecord,
  attachment: AttachmentRecord,
  options: TakeBackOptions = {},
): TakenBack {
  markDetaching(node, record, attachment);
  const network = networkOf(record, attachment);
  const attachments = record.attachments.filter(({ label }) => label !== attachment.label);
  const sharing = attachments.filter(({ bridge }) => bridge === attachment.bridge);
  using pod = openPod(attachment);
  const failures: string[] = [];
  const notes: string[] = [];
  const step = (doing: string, action: () => unknown): void => {
    try {
      const note = action();
      if (typeof note === "string") notes.push(note);
    } catch (error) {
      failures.push(`${doing}: ${messageOf(error)}`);
    }
  };
  step("removing its link", () =>
    disconnectPod(node.route, pod, {
      network: attachment.bridge,
      container: attachment.label,
      interfaceName: attachment.interface,
      hostName: attachment.hostInterface,
    }),
  );
  step("removing its NAT rules", () => translateWithout(node, network, attachment, sharing));
  step("removing its resolver file", () => {
    if (attachment.resolver !== undefined) removeResolver(attachment.resolver);
  });
  step("leaving its namespace", () => leavePod(attachment, pod, options));
  if (sharing.length === 0) step(`removing ${network.bridge}`, () => leaveBridge(node, network));
  if (attachments.length === 0) step("restoring the forwarding", () => restoreSettings(node, record));
  if (failures.length > 0) throw incomplete(attachment, failures);
  const networks = record.networks.filter(({ bridge }) => sharing.length > 0 || bridge !== network.bridge);
  const left: NodeRecord = { ...record, networks, attachments };
  node.store.write(left);
  return { record: left, notes };
}

/** A full disk must not keep a user from undoing: without the mark, a run that is killed now is only broken, and seen. */
function markDetaching(node: AttachmentNode, record: NodeRecord, attachment: AttachmentRecord): void {
  try {
    node.store.write(withAttachment(record, { ...attachment, phase: "detaching" }));
  } catch (error) {
    if (!(error instanceof WayoutError && error.code === "record-not-written")) throw error;
  }
}

/** The rules of those who stay; the last one takes the bridge's rules along. */
function translateWithout(
  node: AttachmentNode,
  network: NetworkRecord,
  gone: AttachmentRecord,
  sharing: readonly AttachmentRecord[],
): void {
  try {
    using nat = openNat(network.backend, node.namespace);
    if (sharing.length === 0) nat.remove(bridgeOwner(network.bridge));
    else if (gone.snat.length > 0) nat.apply(natIntentOf(network, sharing));
  } catch (error) {
    // A kernel that cannot have our rules has none to remove.
    if (!isLack(error)) throw error;
  }
}

/** @param pod undefined when the namespace is gone, or another one has its name */
function leavePod(
  attachment: AttachmentRecord,
  pod: NetworkNamespace | undefined,
  options: TakeBackOptions,
): void {
  if (!attachment.created) {
    if (pod !== undefined && attachment.raisedLoopback) setLoopbackDown(pod);
    return;
  }
  if (options.keepNamespace === true || !isOurs(attachment, pod)) return;
  deleteNamedNamespace(attachment.label);
  if (attachment.madeDirectory) removeNamespaceDirectory();
}

/**
 * Whether the namespace of this name is the one we made. Of a run that was killed while it made or removed it there may
 * be only a file that nothing is mounted on (yet, or any more). One that was killed while making it left no cookie: then
 * the namespace is ours when it is empty.
 */
function isOurs(attachment: AttachmentRecord, pod: NetworkNamespace | undefined): boolean {
  if (pod === undefined) return !namedNamespaces().includes(attachment.label);
  if (attachment.cookie !== undefined) return true;
  using inside = podRoute(pod);
  try {
    return inside.links({ statistics: false }).every(({ name }) => name === "lo");
  } catch (error) {
    // More than are read are more than one.
    if (givenUpBecause(error) === undefined) throw error;
    return false;
  }
}

function setLoopbackDown(pod: NetworkNamespace): void {
  using inside = Rtnetlink.open(pod);
  inside.setLink("lo", { up: false });
}

/** What was there before us stays; so does a bridge to which another program has attached an interface. */
function leaveBridge({ route, namespace }: AttachmentNode, network: NetworkRecord): string | undefined {
  const link = route.link(network.bridge);
  if (link === undefined || link.kind !== "bridge") return undefined;
  if (network.before === undefined) {
    if (removeBridge(route, network.bridge)) return undefined;
    return `${network.bridge} stays: other interfaces are attached to it (${command`ip link show master ${network.bridge}` ?? "ip link"})`;
  }
  for (const text of network.addedGateways) {
    const { address, prefixLength } = parseCidr(text, "keep");
    route.deleteAddress({ interface: link.index, address, prefixLength });
  }
  const { up, acceptRa } = network.before;
  if (acceptRa !== undefined) writeSysctl(namespace, acceptRaOf(network.bridge), acceptRa);
  if (!up) route.setLink(link.index, { up: false });
  return undefined;
}

function incomplete(attachment: AttachmentRecord, failures: readonly string[]): WayoutError {
  return new WayoutError({
    code: "detach-incomplete",
    kind: "broken",
    doing: `detaching ${attachment.label}`,
    said: failures.join("; "),
    todo: `It is recorded as half done; the next ${command`wayout detach ${attachment.label}` ?? "detach"} continues.`,
    details: { failures },
  });
}
