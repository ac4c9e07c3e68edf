/** By what name sysctl has the switches. */

/** The switch for all interfaces of a family. Writing it also sets every interface's own. */
export const FORWARDING_SYSCTL = {
  4: "net.ipv4.ip_forward",
  6: "net.ipv6.conf.all.forwarding",
} as const;
