/** Ports that no flow of a pod may leave with, though no socket has them now: what an administrator reserved. */
import type { NetworkNamespace } from "../../../kernel/namespace.ts";
import { readSysctl } from "../../../kernel/sysctl.ts";

/** A bit for each port. */
const BYTES = 8192;

/** As the map `reserved` has it. */
export function reservedPorts(namespace: NetworkNamespace): Uint8Array {
  const bits = new Uint8Array(BYTES);
  // "8080,9148,30000-32767"
  for (const [, first, last] of (readSysctl(namespace, "net.ipv4.ip_local_reserved_ports") ?? "").matchAll(
    /(\d+)(?:-(\d+))?/g,
  )) {
    for (let port = Number(first); port <= Number(last ?? first); port++) bits[port >> 3]! |= 1 << (port & 7);
  }
  return bits;
}
