/**
 * Prefixes with a meaning of their own (IANA's registries of special-purpose addresses, RFC 6890): each written once, as
 * text for rules and as a question about an address.
 */
import { cidrContains, parseCidr, type Cidr } from "./cidr.ts";

/** Loopback: never leaves a host (RFC 1122 3.2.1.3, RFC 4291 2.5.3). */
export const LOOPBACK = { 4: "127.0.0.0/8", 6: "::1/128" } as const;

/** Link-local: valid on one link, never routed (RFC 3927, RFC 4291 2.5.6). */
export const LINK_LOCAL = { 4: "169.254.0.0/16", 6: "fe80::/10" } as const;

/** Part of the link-local ones in which clouds answer with their metadata, time and names, from behind the router. */
const CLOUD_SERVICES = "169.254.169.0/24";

/** Multicast (RFC 5771, RFC 4291 2.7). */
export const MULTICAST = { 4: "224.0.0.0/4", 6: "ff00::/8" } as const;

/** No address: a socket that listens on it has all of its namespace (RFC 1122 3.2.1.3, RFC 4291 2.5.2). */
export const UNSPECIFIED = { 4: "0.0.0.0", 6: "::" } as const;

/** Limited broadcast (RFC 919). */
export const BROADCAST = "255.255.255.255";

/** Private use (RFC 1918) and unique local (RFC 4193): routed inside a site. */
export const UNIQUE_LOCAL = "fc00::/7";
export const PRIVATE_USE = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", UNIQUE_LOCAL] as const;

/** Site-local, deprecated (RFC 3879); the kernel still gives it a scope of its own. */
export const SITE_LOCAL = "fec0::/10";

/** Shared between a provider and its customers (RFC 6598). */
export const SHARED = "100.64.0.0/10";

export function isLoopbackAddress(address: string): boolean {
  return isIn([LOOPBACK[4], LOOPBACK[6]], address);
}

export function isLinkLocalAddress(address: string): boolean {
  return isIn([LINK_LOCAL[4], LINK_LOCAL[6]], address);
}

export function isUnspecifiedAddress(address: string): boolean {
  return address === UNSPECIFIED[4] || address === UNSPECIFIED[6];
}

export function isCloudServiceAddress(address: string): boolean {
  return isIn([CLOUD_SERVICES], address);
}

export function isUniqueLocalAddress(address: string): boolean {
  return isIn([UNIQUE_LOCAL], address);
}

export function isSiteLocalAddress(address: string): boolean {
  return isIn([SITE_LOCAL], address);
}

export function isMulticastAddress(address: string): boolean {
  return isIn([MULTICAST[4], MULTICAST[6]], address);
}

/** Whether the internet does not route the address: private use, shared, link-local, unique local. */
export function isPrivateAddress(address: string): boolean {
  return isIn([...PRIVATE_USE, SHARED, LINK_LOCAL[4], LINK_LOCAL[6]], address);
}

const parsed = new Map<string, Cidr>();

function isIn(prefixes: readonly string[], address: string): boolean {
  return prefixes.some((text) => {
    let cidr = parsed.get(text);
    if (cidr === undefined) parsed.set(text, (cidr = parseCidr(text)));
    return cidrContains(cidr, address);
  });
}
