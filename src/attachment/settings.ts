/** The node's forwarding: what attachments need of it, and what it was before them. */
import {
  planForwarding,
  readForwarding,
  undoForwarding,
  type Forwarding,
  type SettingChange,
} from "../forwarding/forwarding.ts";
import { type IpFamily, prefixFamily } from "../address/ip.ts";
import { messageOf } from "../error.ts";
import { allIntents } from "../nat/installed.ts";
import type { AttachmentNode } from "./node.ts";
import type { NetworkRecord, NodeRecord } from "./record.ts";

/** The families that a bridge's pods go out with. */
export function familiesOf(network: NetworkRecord): IpFamily[] {
  return [...new Set(network.gateways.map((text) => prefixFamily(text)))];
}

/** What must be changed for a network to be forwarded; empty when nothing. */
export function forwardingNeeded(node: AttachmentNode, network: NetworkRecord): SettingChange[] {
  return planForwarding(readForwarding(node.namespace), wanted(network));
}

function wanted(network: NetworkRecord): { readonly ipv4: boolean; readonly ipv6: boolean } {
  const families = familiesOf(network);
  return { ipv4: families.includes(4), ipv6: families.includes(6) };
}

/** The record with the settings that the network needs changed, and their values now: to be written before they are. */
export function withSettings(node: AttachmentNode, record: NodeRecord, network: NetworkRecord): NodeRecord {
  const current = readForwarding(node.namespace);
  const plan = planForwarding(current, wanted(network));
  const known = new Set(record.settings.map(({ name }) => name));
  const added = [...sideEffects(current, plan), ...plan]
    .filter(({ name }) => !known.has(name))
    .map(({ name, before, after }) => ({ name, before, after }));
  return { ...record, settings: [...record.settings, ...added] };
}

/**
 * The switch for all interfaces sets every single one, there and back: an interface that forwarded before although
 * the others did not must be told so once more at the end.
 */
function sideEffects(current: Forwarding, plan: readonly SettingChange[]): SettingChange[] {
  return current.interfaces.flatMap(({ name, ipv4, ipv6 }) => {
    const kept: SettingChange[] = [];
    const isChanged = (setting: string): boolean => plan.some((change) => change.name === setting);
    if (ipv4 === true && isChanged("net.ipv4.ip_forward")) {
      kept.push({ name: `net.ipv4.conf.${name}.forwarding`, before: "1", after: "1" });
    }
    if (ipv6 === true && isChanged("net.ipv6.conf.all.forwarding")) {
      kept.push({ name: `net.ipv6.conf.${name}.forwarding`, before: "1", after: "1" });
    }
    return kept;
  });
}

/**
 * Puts the settings back, unless pods of other programs rely on them by now: then they stay, and a note says so.
 * @throws Error naming every setting that could not be restored
 */
export function restoreSettings(node: AttachmentNode, record: NodeRecord): string | undefined {
  if (record.settings.length === 0) return undefined;
  const others = otherOwners(node);
  if (others.length > 0) return `forwarding stays on: ${others.join(", ")} relies on it`;
  const there = record.settings.filter(({ name }) => isStillThere(node, name));
  const errors = undoForwarding(node.namespace, there);
  if (errors.length > 0) throw new Error(errors.map(messageOf).join("; "));
  return undefined;
}

/** Who else has wayout translate for its pods on this node. */
function otherOwners(node: AttachmentNode): string[] {
  return allIntents(node.namespace).map(({ owner }) => owner);
}

/** Settings of an interface go with it. */
function isStillThere(node: AttachmentNode, setting: string): boolean {
  const interfaceName = /^net\.ipv[46]\.conf\.(.+)\.[a-z_]+$/.exec(setting)?.[1];
  if (interfaceName === undefined || interfaceName === "all") return true;
  return node.route.link(interfaceName) !== undefined;
}
