/** What link messages have numbers for, by the names of the field. */
import { ARPHRD, ETH_P } from "../link-layer.ts";
import { numberedNames } from "./constants.ts";

/** IF_OPER_* */
export const operationalStates = numberedNames({
  unknown: 0,
  notpresent: 1,
  down: 2,
  lowerlayerdown: 3,
  testing: 4,
  dormant: 5,
  up: 6,
});

export const linkLayers = numberedNames(ARPHRD);

/** IFF_* (include/uapi/linux/if.h). */
export const LINK_FLAGS = {
  UP: 0x1,
  BROADCAST: 0x2,
  DEBUG: 0x4,
  LOOPBACK: 0x8,
  POINTOPOINT: 0x10,
  NOTRAILERS: 0x20,
  RUNNING: 0x40,
  NOARP: 0x80,
  PROMISC: 0x100,
  ALLMULTI: 0x200,
  MASTER: 0x400,
  SLAVE: 0x800,
  MULTICAST: 0x1000,
  PORTSEL: 0x2000,
  AUTOMEDIA: 0x4000,
  DYNAMIC: 0x8000,
  LOWER_UP: 0x1_0000,
  DORMANT: 0x2_0000,
  ECHO: 0x4_0000,
} as const;

/** IN6_ADDR_GEN_MODE_* */
export const addressGenerations = numberedNames({ eui64: 0, none: 1, "stable-privacy": 2, random: 3 });

/** MACVLAN_MODE_* */
export const macvlanModes = numberedNames({ private: 1, vepa: 2, bridge: 4, passthru: 8, source: 16 });

export const vlanProtocols = numberedNames({ "802.1Q": ETH_P["8021q"], "802.1ad": ETH_P["8021ad"] });
