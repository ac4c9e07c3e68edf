import type { AttributesOf } from "../netlink/attributes.ts";
import type { MessageOf } from "../netlink/message.ts";
import { bridgeDetails, bridgePort, type BridgeDetails, type BridgePort } from "./bridge.ts";
import { flagNames } from "./constants.ts";
import type { Ipv4Settings, Ipv6Settings } from "./interface-settings.ts";
import type { linkInfoAttributes, RTM_NEWLINK, vxlanAttributes, xdpAttributes } from "./link-attributes.ts";
import {
  addressGenerations,
  LINK_FLAGS,
  linkLayers,
  macvlanModes,
  operationalStates,
  vlanProtocols,
} from "./link-names.ts";
import type { LinkStatistics } from "./link-statistics.ts";
import { mapped, present } from "../../present.ts";
import { ETH_P } from "../link-layer.ts";

/** RFC 2863 operational state (IF_OPER_*, include/uapi/linux/if.h). */
export type OperationalState =
  | "unknown"
  | "notpresent"
  | "down"
  | "lowerlayerdown"
  | "testing"
  | "dormant"
  | "up"
  | `${number}`;

/** One network interface as the kernel describes it. Absent fields are those the kernel did not send. */
export interface Link {
  readonly index: number;
  readonly name: string;
  /** IFLA_PROP_LIST: other names the link answers to. */
  readonly alternativeNames: readonly string[];
  readonly alias?: string;
  /** "veth", "bridge", "vxlan"…: IFLA_INFO_KIND; absent for hardware and loopback. */
  readonly kind?: string;
  /** ARPHRD_* of the link layer: "ether", "loopback", "none" or the number. */
  readonly layer: string;
  /** Link-layer address; empty text when it has none. */
  readonly mac: string;
  readonly broadcast: string;
  readonly permanentMac?: string;
  readonly mtu: number;
  readonly minMtu?: number;
  readonly maxMtu?: number;
  /** IFF_* without the prefix, lowest bit first: "UP", "BROADCAST", "RUNNING", "LOWER_UP"… */
  readonly flags: readonly string[];
  /** IFF_UP: an administrator or a program set it up. */
  readonly up: boolean;
  readonly operState: OperationalState;
  /** Whether the other end is there. */
  readonly carrier?: boolean;
  readonly carrierChanges?: number;
  /** Index of the bridge, bond or VRF it is enslaved to. */
  readonly master?: number;
  /** Index of the link below or, for veth, of the peer; in another namespace when `linkNamespaceId` is there. */
  readonly link?: number;
  /** Our namespace's number (RTM_GETNSID) for the one `link` lives in. */
  readonly linkNamespaceId?: number;
  readonly group: number;
  readonly promiscuity: number;
  readonly allMulticast?: number;
  readonly queueLength: number;
  readonly queues: { readonly tx: number; readonly rx: number };
  /** Root queueing discipline: "noqueue", "fq_codel"… */
  readonly qdisc?: string;
  readonly gsoMaxSize?: number;
  readonly gsoMaxSegments?: number;
  readonly statistics?: LinkStatistics;
  /** XDP programs attached to it. */
  readonly xdp?: {
    readonly mode: "driver" | "generic" | "hardware" | "multiple";
    readonly programIds: readonly number[];
  };
  /** How IPv6 link-local addresses are made: IN6_ADDR_GEN_MODE_*. */
  readonly ipv6AddressGeneration?: "eui64" | "none" | "stable-privacy" | "random" | `${number}`;
  /** The values of net.ipv4.conf.NAME.* and net.ipv6.conf.NAME.*; absent when it does not speak that family. */
  readonly ipv4?: Ipv4Settings;
  readonly ipv6?: Ipv6Settings;
  readonly bridge?: BridgeDetails;
  readonly port?: BridgePort;
  /** IFLA_INFO_SLAVE_KIND: what kind of master it serves ("bridge", "bond", "vrf"). */
  readonly portKind?: string;
  readonly vlan?: { readonly id: number; readonly protocol: "802.1Q" | "802.1ad" | `${number}` };
  readonly vxlan?: VxlanDetails;
  readonly macvlan?: { readonly mode: MacvlanMode };
  readonly tun?: { readonly mode: "tun" | "tap"; readonly persistent: boolean };
}

export type MacvlanMode = "private" | "vepa" | "bridge" | "passthru" | "source" | `${number}`;

export interface VxlanDetails {
  readonly id: number;
  readonly remote?: string;
  readonly local?: string;
  readonly lower?: number;
  readonly port?: number;
  readonly learning?: boolean;
}

/** Reads RTM_NEWLINK. */
export function linkOf({ header, attributes: a }: MessageOf<typeof RTM_NEWLINK>): Link {
  const { info, port } = a.linkInfo ?? {};
  return present({
    index: header.index,
    name: a.name ?? "",
    alternativeNames: a.properties?.alternativeNames ?? [],
    alias: a.alias,
    kind: kindOf(info),
    layer: linkLayers.nameOf(header.type),
    mac: a.mac ?? "",
    broadcast: a.broadcast ?? "",
    permanentMac: a.permanentMac,
    mtu: a.mtu ?? 0,
    minMtu: a.minMtu,
    maxMtu: a.maxMtu,
    flags: flagNames(LINK_FLAGS, header.flags),
    up: (header.flags & LINK_FLAGS.UP) !== 0,
    operState: operationalStates.nameOf(a.operState ?? 0),
    carrier: a.carrier === undefined ? undefined : a.carrier !== 0,
    carrierChanges: a.carrierChanges,
    master: a.master,
    // Tunnels without a lower link say 0, and no interface has that index.
    link: a.link === 0 ? undefined : a.link,
    linkNamespaceId: a.linkNamespaceId,
    group: a.group ?? 0,
    promiscuity: a.promiscuity ?? 0,
    allMulticast: a.allMulticast,
    queueLength: a.queueLength ?? 0,
    queues: { tx: a.txQueues ?? 1, rx: a.rxQueues ?? 1 },
    qdisc: a.qdisc,
    gsoMaxSize: a.gsoMaxSize,
    gsoMaxSegments: a.gsoMaxSegments,
    statistics: a.statistics,
    xdp: a.xdp === undefined ? undefined : xdpOf(a.xdp),
    ipv4: a.afSpec?.inet?.settings,
    ipv6: a.afSpec?.inet6?.settings,
    ipv6AddressGeneration: mapped(a.afSpec?.inet6?.addressGeneration, addressGenerations.nameOf),
    portKind: kindOf(port),
    port: port?.kind === "bridge" ? bridgePort(port.data) : undefined,
    ...(info === undefined ? {} : kindDetails(info)),
  });
}

type LinkInfo = AttributesOf<typeof linkInfoAttributes>;

function kindOf(tagged: LinkInfo["info"] | LinkInfo["port"]): string | undefined {
  return tagged?.kind === "other" ? tagged.name : tagged?.kind;
}

/** What only links of one kind have. */
function kindDetails(info: NonNullable<LinkInfo["info"]>): Partial<Link> {
  switch (info.kind) {
    case "bridge":
      return { bridge: bridgeDetails(info.data) };
    case "vlan":
      return {
        vlan: { id: info.data.id ?? 0, protocol: vlanProtocols.nameOf(info.data.protocol ?? ETH_P["8021q"]) },
      };
    case "vxlan":
      return { vxlan: vxlanOf(info.data) };
    case "macvlan":
      return { macvlan: { mode: macvlanModes.nameOf(info.data.mode ?? 0) } };
    case "tun":
      return { tun: { mode: info.data.type === 2 ? "tap" : "tun", persistent: info.data.persist === 1 } };
    case "veth":
    case "other":
      return {};
  }
}

function vxlanOf(data: AttributesOf<typeof vxlanAttributes>): VxlanDetails {
  return present({
    id: data.id ?? 0,
    remote: data.group ?? data.group6,
    local: data.local ?? data.local6,
    lower: data.link === 0 ? undefined : data.link,
    port: data.port,
    learning: data.learning === undefined ? undefined : data.learning !== 0,
  });
}

/** XDP_ATTACHED_*; undefined when no program is attached. */
function xdpOf(xdp: AttributesOf<typeof xdpAttributes>): Link["xdp"] {
  const mode = ([undefined, "driver", "generic", "hardware", "multiple"] as const)[xdp.attached ?? 0];
  if (mode === undefined) return undefined;
  const several = [xdp.driverProgramId, xdp.genericProgramId, xdp.hardwareProgramId].filter(
    (id) => id !== undefined,
  );
  return {
    mode,
    programIds: several.length > 0 ? several : xdp.programId === undefined ? [] : [xdp.programId],
  };
}
