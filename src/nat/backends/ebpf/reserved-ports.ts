/** Ports that no flow of a pod may leave with, though no socket has them now: what an administrator reserved. */
import type { NetworkNamespace } from "../../../kernel/namespace.ts";
import { parsePortRanges } from "../../../linux/ip-protocol.ts";
import { readSysctl } from "../../../kernel/sysctl.ts";

/** A bit for each port. */
const BYTES = 8192;

/** As the map `reserved` has it. */
export function reservedPorts(namespace: NetworkNamespace): Uint8Array {
  const bits = new Uint8Array(BYTES);
  for (const { first, last } of parsePortRanges(
    readSysctl(namespace, "net.ipv4.ip_local_reserved_ports") ?? "",
  )) {
    for (let port = first; port <= last; port++) bits[port >> 3]! |= 1 << (port & 7);
  }
  return bits;
}
