/** Makes and unmakes what a record describes. Every step can be done twice, and undone without having been done. */
import { familyOf, addressOf, DEFAULT_CIDR } from "../address/ip.ts";
import { isRefusal } from "../error.ts";
import { createNamedNamespace } from "../kernel/named-namespace.ts";
import { NetworkNamespace } from "../kernel/namespace.ts";
import { openNat } from "../nat/open.ts";
import type { AttachmentNode } from "./node.ts";
import type { AttachmentRecord, NetworkRecord, NodeRecord } from "./record.ts";
import { writeResolver } from "./resolver.ts";
import { familiesOf } from "./settings.ts";
import { natIntentOf } from "./translation.ts";
import { openWayOut } from "./way-out.ts";

/**
 * The namespace of an attachment, if it is still the one we attached; the caller closes it.
 * @throws SystemError EPERM without privilege
 */
export function openPod(attachment: AttachmentRecord): NetworkNamespace | undefined {
  let namespace: NetworkNamespace;
  try {
    namespace = NetworkNamespace.open(attachment.path);
  } catch (error) {
    if (isRefusal(error)) throw error;
    return undefined;
  }
  if (attachment.cookie === undefined || namespace.cookie === attachment.cookie) return namespace;
  namespace.close();
  return undefined;
}

export function networkOf(record: NodeRecord, attachment: AttachmentRecord): NetworkRecord {
  const network = record.networks.find(({ bridge }) => bridge === attachment.bridge);
  if (network !== undefined) return network;
  throw new Error(
    `the record of ${attachment.label} names the network ${attachment.bridge}, which is not there`,
  );
}

/** The record with this attachment, and its network, put in, or in the place of what it had under their names. */
export function withAttachment(
  record: NodeRecord,
  attachment: AttachmentRecord,
  network: NetworkRecord = networkOf(record, attachment),
): NodeRecord {
  return {
    ...record,
    networks: replaced(record.networks, network, ({ bridge }) => bridge === network.bridge),
    attachments: replaced(record.attachments, attachment, ({ label }) => label === attachment.label),
  };
}

function replaced<T>(list: readonly T[], item: T, isOld: (other: T) => boolean): T[] {
  const at = list.findIndex(isOld);
  return at < 0 ? [...list, item] : list.with(at, item);
}

/**
 * Carries out what the record says of an attachment, which is in it and written to disk. Returns the record with what
 * was learned on the way.
 */
export function build(node: AttachmentNode, record: NodeRecord, planned: AttachmentRecord): NodeRecord {
  let attachment = planned;
  let known = record;
  if (attachment.created && attachment.cookie === undefined) {
    createNamedNamespace(attachment.label);
    using made = NetworkNamespace.named(attachment.label);
    attachment = { ...attachment, cookie: made.cookie };
    known = withAttachment(known, attachment);
    node.store.write(known);
  }
  const network = networkOf(known, attachment);
  using pod = NetworkNamespace.open(attachment.path);
  if (network.before !== undefined) pinAddress(node, network);
  using nat = openNat(network.backend, node.namespace);
  openWayOut(node.route, node.namespace, pod, {
    bridge: { name: network.bridge, gateways: network.gateways },
    link: {
      network: network.bridge,
      container: attachment.label,
      interfaceName: attachment.interface,
      hostName: attachment.hostInterface,
      addresses: attachment.addresses,
      routes: defaultRoutes(network, attachment),
      adopt: true,
    },
    forward: familiesOf(network),
    nat: {
      backend: nat,
      intent: natIntentOf(
        network,
        known.attachments.filter(({ bridge }) => bridge === network.bridge),
      ),
    },
  });
  if (attachment.resolver !== undefined) writeResolver(attachment.resolver);
  return withAttachment(known, { ...attachment, phase: "attached" });
}

/**
 * A bridge takes the lowest MAC of its ports, and none when the last one leaves, unless its own was once set. Setting
 * the one it has keeps our coming and going from the neighbours of a bridge that is not ours.
 */
function pinAddress(node: AttachmentNode, network: NetworkRecord): void {
  const link = node.route.link(network.bridge, { statistics: false });
  if (link === undefined || /^[0:]*$/.test(link.mac)) return;
  node.route.setLink(link.index, { mac: link.mac });
}

function defaultRoutes(network: NetworkRecord, attachment: AttachmentRecord) {
  const isIpv6 = (text: string): boolean => familyOf(text) === 6;
  return network.gateways
    .filter((gateway) => attachment.addresses.some((address) => isIpv6(address) === isIpv6(gateway)))
    .map((gateway) => ({
      destination: DEFAULT_CIDR[familyOf(gateway)],
      gateway: addressOf(gateway),
    }));
}
