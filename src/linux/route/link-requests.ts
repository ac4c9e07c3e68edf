/** Requests that make, change and delete links. */
import { familyOf } from "../../address/ip.ts";
import type { AttributesOf } from "../netlink/attributes.ts";
import { utf8Length } from "../../platform/bytes.ts";
import { NLM_F_CREATE, NLM_F_EXCL, request, type Request } from "../netlink/message.ts";
import { bridgeVlanInfos, portStates, type BridgePortChange, type BridgeVlan } from "./bridge.ts";
import { AF_BRIDGE } from "../socket.ts";
import type { Ipv4Settings } from "./interface-settings.ts";
import { addressGenerations, LINK_FLAGS, macvlanModes } from "./link-names.ts";
import type { MacvlanMode } from "./link.ts";
import {
  type bridgePortAttributes,
  type linkAttributes,
  RTM_DELLINK,
  RTM_DELLINK_BRIDGE,
  RTM_GETLINK,
  RTM_NEWLINK,
  RTM_SETLINK_BRIDGE,
} from "./link-attributes.ts";
import { mapped, present } from "../../present.ts";

/** What a new veth pair looks like. The peer is made directly in its own namespace, under its final name. */
export interface VethSpec {
  readonly name: string;
  readonly mac?: string;
  readonly mtu?: number;
  /** Index of the bridge that `name` joins at once. */
  readonly master?: number;
  readonly peer: {
    readonly name: string;
    readonly mac?: string;
    readonly mtu?: number;
    /** File descriptor of the namespace it is made in; ours when absent. */
    readonly namespaceFd?: number;
  };
}

export interface BridgeSpec {
  readonly name: string;
  /** Pinned: without it a bridge takes its lowest port's MAC and changes it as ports come and go. */
  readonly mac?: string;
  readonly mtu?: number;
  readonly up?: boolean;
  readonly stp?: boolean;
  readonly vlanFiltering?: boolean;
  /** The VLAN of untagged frames; 0 for none. Needs a kernel with bridge VLAN filtering. */
  readonly defaultVlan?: number;
}

/** What setLink changes; absent fields stay as they are. */
export interface LinkChange {
  readonly up?: boolean;
  readonly name?: string;
  readonly mac?: string;
  readonly mtu?: number;
  /** Index of the new master; 0 takes it out of its master. */
  readonly master?: number;
  readonly alias?: string;
  readonly promiscuous?: boolean;
  readonly allMulticast?: boolean;
  readonly arp?: boolean;
  readonly queueLength?: number;
  /** Packets that the link takes at once as one; with 1 nothing is left to it, and every packet goes alone. */
  readonly gsoMaxSegments?: number;
  /** Moves the link to the namespace of this file descriptor. */
  readonly namespaceFd?: number;
  readonly ipv6AddressGeneration?: "eui64" | "none";
  /** Values of net.ipv4.conf.NAME.*, without touching a file. */
  readonly ipv4?: Ipv4Settings;
}

export interface MacvlanSpec {
  readonly name: string;
  /** Index of the link below. */
  readonly lower: number;
  readonly mode?: MacvlanMode;
  readonly mac?: string;
  readonly mtu?: number;
  readonly namespaceFd?: number;
}

export interface VxlanSpec {
  readonly name: string;
  /** VXLAN network identifier, 24 bits. */
  readonly id: number;
  readonly local?: string;
  readonly remote?: string;
  /** Index of the link below. */
  readonly lower?: number;
  /** UDP port, default 4789 (RFC 7348). */
  readonly port?: number;
  readonly learning?: boolean;
  readonly mtu?: number;
}

type LinkAttributes = AttributesOf<typeof linkAttributes>;

/** A link is named by its index or, where that is not known, by its name. */
export type LinkReference = string | number;

function addressed(link: LinkReference): { header: { index?: number }; attributes: LinkAttributes } {
  if (typeof link === "number") return { header: { index: link }, attributes: {} };
  // Only alternative names are longer than IFNAMSIZ.
  return utf8Length(link) < 16
    ? { header: {}, attributes: { name: link } }
    : { header: {}, attributes: { alternativeName: link } };
}

function labelOf(link: LinkReference): string {
  return typeof link === "number" ? `link ${link}` : link;
}

/** 0 and 1, as the kernel has booleans. */
function bit(value: boolean | undefined): number | undefined {
  return value === undefined ? undefined : value ? 1 : 0;
}

/** @param extMask RTEXT_FILTER_* */
export function getLinkRequest(link: LinkReference, extMask = 0): Request {
  const { header, attributes } = addressed(link);
  return request(RTM_GETLINK, `reading ${labelOf(link)}`, header, {
    ...attributes,
    ...(extMask === 0 ? {} : { extMask }),
  });
}

/** A new pair is down: the kernel cannot set a veth up in the message that makes it, its peer is not there yet. */
export function createVethRequest(spec: VethSpec): Request {
  return request(
    RTM_NEWLINK,
    `creating veth ${spec.name} with peer ${spec.peer.name}`,
    {},
    {
      ...present({ name: spec.name, mac: spec.mac, mtu: spec.mtu, master: spec.master }),
      linkInfo: { info: { kind: "veth", data: { peer: present({ ...spec.peer }) } } },
    },
    NLM_F_CREATE | NLM_F_EXCL,
  );
}

export function createBridgeRequest(spec: BridgeSpec): Request {
  const data = present({
    stpState: bit(spec.stp),
    vlanFiltering: bit(spec.vlanFiltering),
    defaultVlan: spec.defaultVlan,
  });
  return request(
    RTM_NEWLINK,
    `creating bridge ${spec.name}`,
    spec.up === true ? { flags: LINK_FLAGS.UP, change: LINK_FLAGS.UP } : {},
    {
      ...present({ name: spec.name, mac: spec.mac, mtu: spec.mtu }),
      linkInfo: { info: { kind: "bridge", data } },
    },
    NLM_F_CREATE | NLM_F_EXCL,
  );
}

/** Changes settings of a bridge that is there. */
export function setBridgeRequest(
  bridge: LinkReference,
  change: Pick<BridgeSpec, "stp" | "vlanFiltering" | "defaultVlan">,
): Request {
  const { header, attributes } = addressed(bridge);
  const data = present({
    stpState: bit(change.stp),
    vlanFiltering: bit(change.vlanFiltering),
    defaultVlan: change.defaultVlan,
  });
  return request(RTM_NEWLINK, `changing bridge ${labelOf(bridge)}`, header, {
    ...attributes,
    linkInfo: { info: { kind: "bridge", data } },
  });
}

export function createMacvlanRequest(spec: MacvlanSpec): Request {
  return request(
    RTM_NEWLINK,
    `creating macvlan ${spec.name}`,
    {},
    {
      ...present({ name: spec.name, mac: spec.mac, mtu: spec.mtu, namespaceFd: spec.namespaceFd }),
      link: spec.lower,
      linkInfo: { info: { kind: "macvlan", data: { mode: macvlanModes.numberOf(spec.mode ?? "bridge") } } },
    },
    NLM_F_CREATE | NLM_F_EXCL,
  );
}

export function createVxlanRequest(spec: VxlanSpec): Request {
  const ipv6 = familyOf(spec.local ?? spec.remote ?? "") === 6;
  const data = present({
    id: spec.id,
    link: spec.lower,
    ...(ipv6 ? { local6: spec.local, group6: spec.remote } : { local: spec.local, group: spec.remote }),
    port: spec.port ?? 4789,
    learning: bit(spec.learning),
  });
  return request(
    RTM_NEWLINK,
    `creating vxlan ${spec.name}`,
    {},
    { ...present({ name: spec.name, mtu: spec.mtu }), linkInfo: { info: { kind: "vxlan", data } } },
    NLM_F_CREATE | NLM_F_EXCL,
  );
}

/** @throws Error when a link is to be renamed that is given by its name: on the wire there is only one name */
export function setLinkRequest(link: LinkReference, change: LinkChange): Request {
  const { header, attributes } = addressed(link);
  if (change.name !== undefined && typeof link === "string") {
    throw new Error("a link that is to be renamed is given by its index");
  }
  return request(
    RTM_NEWLINK,
    `changing ${labelOf(link)}`,
    { ...header, ...flagChange(change) },
    {
      ...attributes,
      ...present({
        name: change.name ?? attributes.name,
        mac: change.mac,
        mtu: change.mtu,
        master: change.master,
        alias: change.alias,
        queueLength: change.queueLength,
        gsoMaxSegments: change.gsoMaxSegments,
        namespaceFd: change.namespaceFd,
        afSpec: familySettings(change),
      }),
    },
  );
}

function flagChange(change: LinkChange): { flags: number; change: number } {
  const wanted = [
    [LINK_FLAGS.UP, change.up],
    [LINK_FLAGS.PROMISC, change.promiscuous],
    [LINK_FLAGS.ALLMULTI, change.allMulticast],
    [LINK_FLAGS.NOARP, change.arp === undefined ? undefined : !change.arp],
  ] as const;
  let flags = 0;
  let mask = 0;
  for (const [flag, on] of wanted) {
    if (on === undefined) continue;
    mask |= flag;
    if (on) flags |= flag;
  }
  return { flags, change: mask };
}

function familySettings(change: LinkChange): LinkAttributes["afSpec"] {
  const addressGeneration = mapped(change.ipv6AddressGeneration, addressGenerations.numberOf);
  if (change.ipv4 === undefined && addressGeneration === undefined) return undefined;
  return present({
    inet: mapped(change.ipv4, (settings) => ({ settings })),
    inet6: mapped(addressGeneration, (mode) => ({ addressGeneration: mode })),
  });
}

/** Settings of a port and, in the same message, its link flags. The link must be in its bridge already. */
export function setBridgePortRequest(link: LinkReference, change: BridgePortChange, up?: boolean): Request {
  const { header, attributes } = addressed(link);
  const data: AttributesOf<typeof bridgePortAttributes> = present({
    state: mapped(change.state, portStates.numberOf),
    priority: change.priority,
    cost: change.cost,
    hairpin: bit(change.hairpin),
    isolated: bit(change.isolated),
    learning: bit(change.learning),
    flood: bit(change.flood),
    multicastFlood: bit(change.multicastFlood),
    broadcastFlood: bit(change.broadcastFlood),
  });
  return request(
    RTM_NEWLINK,
    `changing bridge port ${labelOf(link)}`,
    { ...header, ...flagChange(present({ up })) },
    { ...attributes, linkInfo: { port: { kind: "bridge", data } } },
  );
}

export function deleteLinkRequest(link: LinkReference): Request {
  const { header, attributes } = addressed(link);
  return request(RTM_DELLINK, `deleting ${labelOf(link)}`, header, attributes);
}

/** BRIDGE_FLAGS_SELF (include/uapi/linux/if_bridge.h). */
const BRIDGE_FLAGS_SELF = 2;

function vlanRequest(
  message: typeof RTM_SETLINK_BRIDGE | typeof RTM_DELLINK_BRIDGE,
  doing: string,
  index: number,
  vlans: readonly BridgeVlan[],
  self: boolean,
): Request {
  return request(
    message,
    doing,
    { family: AF_BRIDGE, index },
    { afSpec: { ...(self ? { flags: BRIDGE_FLAGS_SELF } : {}), vlans: vlans.flatMap(bridgeVlanInfos) } },
  );
}

/** @param self of the bridge device itself rather than of a port */
export function addBridgeVlansRequest(index: number, vlans: readonly BridgeVlan[], self = false): Request {
  return vlanRequest(RTM_SETLINK_BRIDGE, `adding VLANs to link ${index}`, index, vlans, self);
}

export function deleteBridgeVlansRequest(index: number, vlans: readonly BridgeVlan[], self = false): Request {
  return vlanRequest(RTM_DELLINK_BRIDGE, `taking VLANs from link ${index}`, index, vlans, self);
}
