/** By what name sysctl has the switches of forwarding, and which of them decides about a packet. Pure. */
import type { IpFamily } from "../address/ip.ts";

/** The switch for all interfaces of a family. Writing it also sets every interface's own. */
export const FORWARDING_SYSCTL = {
  4: "net.ipv4.ip_forward",
  6: "net.ipv6.conf.all.forwarding",
} as const;

/** What the switches say, 0 or 1; undefined where one is not there. */
export interface ForwardingSwitches {
  /** The family's own: FORWARDING_SYSCTL. */
  readonly all: number | undefined;
  /** That of the interface by which packets arrive. */
  readonly own: number | undefined;
  /** IPv6, since Linux 6.17: force_forwarding of that interface. */
  readonly forced?: number | undefined;
}

/**
 * The sysctl that forbids to forward what arrives on the interface; undefined when none does. IPv4 asks the interface
 * alone (IN_DEV_FORWARD), and writing ip_forward sets all of them. IPv6 asks "all" alone (ip6_forward): the interface's
 * own switch only says whether it behaves as a router's, for instance ignores router advertisements.
 */
export function forwardingForbiddenBy(
  family: IpFamily,
  link: string,
  { all, own, forced }: ForwardingSwitches,
): string | undefined {
  if (family === 6) return forced !== 1 && all === 0 ? FORWARDING_SYSCTL[6] : undefined;
  if (own === 1) return undefined;
  if (all === 0) return FORWARDING_SYSCTL[4];
  return own === 0 ? `net.ipv4.conf.${link}.forwarding` : undefined;
}
