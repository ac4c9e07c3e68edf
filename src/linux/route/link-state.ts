/** The part of a link that is read again and again while one is made, joined and taken away. */
import type { MessageOf } from "../netlink/message.ts";
import { portStates, type BridgeDetails, type BridgePort } from "./bridge.ts";
import { flagNames } from "./constants.ts";
import type { Ipv4State, Ipv6State } from "./interface-settings.ts";
import type { bridgeAttributes, bridgePortAttributes, RTM_NEWLINK_STATE } from "./link-attributes.ts";
import type { AttributesOf } from "../netlink/attributes.ts";
import { LINK_FLAGS, operationalStates } from "./link-names.ts";
import type { Link } from "./link.ts";
import { present } from "../../present.ts";

export type LinkState = Pick<
  Link,
  | "index"
  | "name"
  | "kind"
  | "mac"
  | "mtu"
  | "flags"
  | "up"
  | "operState"
  | "master"
  | "link"
  | "linkNamespaceId"
  | "alias"
> & {
  readonly ipv4?: Ipv4State;
  readonly ipv6?: Ipv6State;
  readonly bridge?: Pick<BridgeDetails, "vlanFiltering" | "defaultVlan">;
  readonly port?: Pick<BridgePort, "state" | "hairpin" | "isolated">;
};

/** Reads RTM_NEWLINK as far as LinkState goes. */
export function linkStateOf({ header, attributes: a }: MessageOf<typeof RTM_NEWLINK_STATE>): LinkState {
  const { info, port } = a.linkInfo ?? {};
  return present({
    index: header.index,
    name: a.name ?? "",
    alias: a.alias,
    kind: info?.kind === "other" ? info.name : info?.kind,
    mac: a.mac ?? "",
    mtu: a.mtu ?? 0,
    flags: flagNames(LINK_FLAGS, header.flags),
    up: (header.flags & LINK_FLAGS.UP) !== 0,
    operState: operationalStates.nameOf(a.operState ?? 0),
    master: a.master,
    link: a.link === 0 ? undefined : a.link,
    linkNamespaceId: a.linkNamespaceId,
    ipv4: a.afSpec?.inet?.settings,
    ipv6: a.afSpec?.inet6?.settings,
    bridge: info?.kind === "bridge" ? bridgeStateOf(info.data) : undefined,
    port: port?.kind === "bridge" ? portStateOf(port.data) : undefined,
  });
}

function portStateOf({ state, hairpin, isolated }: PortData): LinkState["port"] {
  return { state: portStates.nameOf(state ?? 0), hairpin: hairpin === 1, isolated: isolated === 1 };
}

type PortData = Pick<AttributesOf<typeof bridgePortAttributes>, "state" | "hairpin" | "isolated">;

function bridgeStateOf({ vlanFiltering, defaultVlan }: BridgeData): LinkState["bridge"] {
  const filters = vlanFiltering === 1;
  return defaultVlan === undefined ? { vlanFiltering: filters } : { vlanFiltering: filters, defaultVlan };
}

type BridgeData = Pick<AttributesOf<typeof bridgeAttributes>, "vlanFiltering" | "defaultVlan">;
