import { cidrOf } from "../../address/cidr.ts";
import { ipFamily, ipFromNumber } from "../../address/ip.ts";
import { attribute, AttributeSet } from "../netlink/attributes.ts";
import { i32, ip, string, struct, u32, u8 } from "../netlink/codec.ts";
import {
  NLM_F_CREATE,
  NLM_F_EXCL,
  request,
  type MessageOf,
  type MessageSpec,
  type Request,
} from "../netlink/message.ts";
import { flagNames, numberedNames, scopes, type RouteScope } from "./constants.ts";
import { AF_INET, AF_INET6, ipFamilyOf } from "../socket.ts";
import { mapped, present } from "../../present.ts";

/** An address on an interface. */
export interface Address {
  readonly family: 4 | 6;
  /** Index of the interface. */
  readonly interface: number;
  /** The interface's own address. */
  readonly address: string;
  readonly prefixLength: number;
  /** The other end of a point-to-point link; absent when it is the address itself. */
  readonly peer?: string;
  readonly broadcast?: string;
  readonly label?: string;
  readonly scope: RouteScope;
  /** "permanent", "tentative", "dadfailed", "secondary" (IPv4) or "temporary" (IPv6), "nodad", "deprecated"… */
  readonly flags: readonly string[];
  /** Seconds left; absent for ever. */
  readonly preferredSeconds?: number;
  readonly validSeconds?: number;
  /** Metric of the route to the prefix, when one was given. */
  readonly metric?: number;
  /** IFAPROT_*: who made it; absent when nobody said. */
  readonly protocol?: "kernel_lo" | "kernel_ra" | "kernel_ll" | `${number}`;
}

export interface AddressSpec {
  readonly interface: number;
  readonly address: string;
  readonly prefixLength: number;
  readonly peer?: string;
  /** IPv4: absent means the prefix's own broadcast address (none from /31 on), null none. */
  readonly broadcast?: string | null;
  readonly scope?: RouteScope;
  readonly label?: string;
  /** IPv6: usable at once, without duplicate address detection. */
  readonly nodad?: boolean;
  /** Do not make the route to the prefix. */
  readonly noPrefixRoute?: boolean;
  readonly metric?: number;
  readonly validSeconds?: number;
  readonly preferredSeconds?: number;
}

/** IFA_F_* (include/uapi/linux/if_addr.h); bit 0 has a name a family. */
const IFA_F_SECONDARY = 0x01;
const IFA_F_NODAD = 0x02;
const IFA_F_NOPREFIXROUTE = 0x200;
const ADDRESS_FLAGS = {
  nodad: IFA_F_NODAD,
  optimistic: 0x04,
  dadfailed: 0x08,
  home: 0x10,
  deprecated: 0x20,
  tentative: 0x40,
  permanent: 0x80,
  mngtmpaddr: 0x100,
  noprefixroute: IFA_F_NOPREFIXROUTE,
  autojoin: 0x400,
  "stable-privacy": 0x800,
} as const;

const addressProtocols = numberedNames({ kernel_lo: 1, kernel_ra: 2, kernel_ll: 3 });

/** A lifetime without end (INFINITY_LIFE_TIME, include/net/addrconf.h). */
const FOREVER = 0xffff_ffff;

export const ifaddrmsg = struct("ifaddrmsg", {
  family: "u8",
  prefixLength: "u8",
  flags: "u8",
  scope: "u8",
  index: "u32",
});

export const ifaCacheinfo = struct("ifa_cacheinfo", {
  preferred: "u32",
  valid: "u32",
  created: "u32",
  updated: "u32",
});

/** IFA_*. */
export const addressAttributes = new AttributeSet(() => ({
  address: attribute("IFA_ADDRESS", 1, ip),
  local: attribute("IFA_LOCAL", 2, ip),
  label: attribute("IFA_LABEL", 3, string),
  broadcast: attribute("IFA_BROADCAST", 4, ip),
  anycast: attribute("IFA_ANYCAST", 5, ip),
  cacheInfo: attribute("IFA_CACHEINFO", 6, ifaCacheinfo),
  multicast: attribute("IFA_MULTICAST", 7, ip),
  flags: attribute("IFA_FLAGS", 8, u32),
  metric: attribute("IFA_RT_PRIORITY", 9, u32),
  targetNamespaceId: attribute("IFA_TARGET_NETNSID", 10, i32),
  protocol: attribute("IFA_PROTO", 11, u8),
}));

export const RTM_NEWADDR = {
  name: "RTM_NEWADDR",
  type: 20,
  header: ifaddrmsg,
  attributes: addressAttributes,
} as const satisfies MessageSpec;
/** The same, of which nothing is decoded but whose address it is: `heldAddress` reads it. */
export const RTM_NEWADDR_HELD = {
  ...RTM_NEWADDR,
  attributes: new AttributeSet(() => ({
    address: attribute("IFA_ADDRESS", 1, ip),
    local: attribute("IFA_LOCAL", 2, ip),
  })),
} as const satisfies MessageSpec;
export const RTM_DELADDR = { ...RTM_NEWADDR, name: "RTM_DELADDR", type: 21 } as const satisfies MessageSpec;
export const RTM_GETADDR = { ...RTM_NEWADDR, name: "RTM_GETADDR", type: 22 } as const satisfies MessageSpec;

/** Reads RTM_NEWADDR; undefined for families other than IPv4 and IPv6. */
export function addressFromMessage({
  header,
  attributes: a,
}: MessageOf<typeof RTM_NEWADDR>): Address | undefined {
  const family = ipFamilyOf(header.family);
  if (family === undefined) return undefined;
  // IFA_LOCAL is the interface's own; IFA_ADDRESS is the prefix's address or, point-to-point, the other end's.
  const address = a.local ?? a.address;
  if (address === undefined) return undefined;
  const flags = a.flags ?? header.flags;
  const first = family === 4 ? "secondary" : "temporary";
  const lifetime = (seconds: number | undefined): number | undefined =>
    seconds === FOREVER ? undefined : seconds;
  return present({
    family,
    interface: header.index,
    address,
    prefixLength: header.prefixLength,
    peer: a.address === address ? undefined : a.address,
    broadcast: a.broadcast,
    label: a.label,
    scope: scopes.nameOf(header.scope),
    flags: [
      ...((flags & IFA_F_SECONDARY) === 0 ? [] : [first]),
      ...flagNames(ADDRESS_FLAGS, flags & ~IFA_F_SECONDARY),
    ],
    preferredSeconds: lifetime(a.cacheInfo?.preferred),
    validSeconds: lifetime(a.cacheInfo?.valid),
    metric: a.metric,
    protocol: mapped(a.protocol === 0 ? undefined : a.protocol, addressProtocols.nameOf),
  });
}

/** As much of an address as it takes to see whether it is the one that is wanted. */
export type HeldAddress = Pick<Address, "family" | "interface" | "address" | "prefixLength" | "scope">;

/** Reads RTM_NEWADDR as far as HeldAddress goes. */
export function heldAddress({
  header,
  attributes: { address, local = address },
}: MessageOf<typeof RTM_NEWADDR_HELD>): HeldAddress | undefined {
  const family = ipFamilyOf(header.family);
  if (family === undefined || local === undefined) return undefined;
  const { index, prefixLength, scope } = header;
  return { family, interface: index, address: local, prefixLength, scope: scopes.nameOf(scope) };
}

/** Fails with EEXIST when the interface has the address already. */
export function addAddressRequest(spec: AddressSpec): Request {
  return request(
    RTM_NEWADDR,
    `adding address ${spec.address}/${spec.prefixLength} to link ${spec.interface}`,
    headerOf(spec),
    present({
      local: spec.address,
      address: spec.peer ?? spec.address,
      broadcast: broadcastOf(spec),
      label: spec.label,
      flags: flagsOf(spec),
      metric: spec.metric,
      cacheInfo:
        spec.validSeconds === undefined && spec.preferredSeconds === undefined
          ? undefined
          : {
              valid: spec.validSeconds ?? FOREVER,
              preferred: spec.preferredSeconds ?? spec.validSeconds ?? FOREVER,
              created: 0,
              updated: 0,
            },
    }),
    NLM_F_CREATE | NLM_F_EXCL,
  );
}

export function deleteAddressRequest(
  spec: Pick<AddressSpec, "interface" | "address" | "prefixLength">,
): Request {
  return request(
    RTM_DELADDR,
    `deleting address ${spec.address}/${spec.prefixLength} from link ${spec.interface}`,
    headerOf(spec),
    { local: spec.address },
  );
}

function headerOf(spec: Pick<AddressSpec, "interface" | "address" | "prefixLength" | "scope">) {
  return {
    family: ipFamily(spec.address) === 4 ? AF_INET : AF_INET6,
    prefixLength: spec.prefixLength,
    scope: scopes.numberOf(spec.scope ?? "global"),
    index: spec.interface,
  };
}

function flagsOf(spec: AddressSpec): number | undefined {
  const flags =
    (spec.nodad === true ? IFA_F_NODAD : 0) | (spec.noPrefixRoute === true ? IFA_F_NOPREFIXROUTE : 0);
  return flags === 0 ? undefined : flags;
}

/** The kernel sets no broadcast address by itself. RFC 3021: a /31 has none. */
function broadcastOf(spec: AddressSpec): string | undefined {
  if (spec.broadcast !== undefined) return spec.broadcast ?? undefined;
  if (ipFamily(spec.address) === 6 || spec.prefixLength > 30 || spec.peer !== undefined) return undefined;
  return ipFromNumber(4, cidrOf(spec.address, spec.prefixLength).last);
}
