/** Names of kernel settings, as sysctl(8) writes them. */

/** Families of settings that have an interface's name, which may hold dots, in the middle. */
const PER_INTERFACE = /^(net\.(?:ipv4|ipv6|mpls)\.(?:conf|neigh))\.(.+)\.([^.]+)$/;

/**
 * The folders and the file behind a name. Both of sysctl(8)'s spellings are understood: "net.ipv4.ip_forward" and
 * "net/ipv4/ip_forward"; in the dotted one the interface of net.ipv4.conf.eth0.100.rp_filter keeps its dots.
 */
export function sysctlParts(name: string): string[] {
  const interfaces = PER_INTERFACE.exec(name);
  if (interfaces !== null) {
    return [...interfaces[1]!.split("."), interfaces[2]!.replaceAll("/", "."), interfaces[3]!];
  }
  return name.includes("/") ? name.split("/") : name.split(".");
}

/** The name as every sysctl(8) takes it on its command line; undefined when none can. */
export function sysctlWord(name: string): string | undefined {
  const parts = sysctlParts(name);
  if (parts.some((part) => part === "" || part.includes("="))) return undefined;
  return parts.join(parts.some((part) => part.includes(".")) ? "/" : ".");
}
