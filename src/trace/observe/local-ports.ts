/** The pod's own local ports: how many there are, and how many its sockets hold. */
import type { NetworkNamespace } from "../../kernel/namespace.ts";
import { parsePortRanges } from "../../linux/ip-protocol.ts";
import { readPodTable } from "../../pods/pod-socket.ts";
import { readSysctl } from "../../kernel/sysctl.ts";
import type { FlowPattern, LocalPorts } from "../evidence.ts";
import type { Exchange } from "./exchange.ts";
import { present } from "../../present.ts";

const RANGE = "net.ipv4.ip_local_port_range";
const RESERVED = "net.ipv4.ip_local_reserved_ports";

/** @param remotePort of TCP only those count that go there: to another destination a port may be used once more */
function localPorts(
  namespace: NetworkNamespace,
  protocol: "tcp" | "udp",
  remotePort: number,
): LocalPorts | undefined {
  const range = readSysctl(namespace, RANGE);
  const [low, high] = (range ?? "").split(/\s+/).map(Number);
  if (range === undefined || low === undefined || high === undefined) return undefined;
  const used = new Set<number>();
  for (const file of [protocol, `${protocol}6`]) {
    for (const [local, remote] of socketPorts(namespace, file)) {
      if (local >= low && local <= high && (protocol === "udp" || remote === remotePort)) used.add(local);
    }
  }
  const reserved = readSysctl(namespace, RESERVED)?.trim();
  return present({
    range: `${low} ${high}`,
    size: high - low + 1,
    reserved: reserved === undefined || reserved === "" ? undefined : reserved,
    withheld: withheldOf(reserved ?? "", low, high),
    used: used.size,
  });
}

/** How many ports between the two the kernel gives to nobody. */
function withheldOf(reserved: string, low: number, high: number): number {
  return parsePortRanges(reserved)
    .map(({ first, last }) => Math.min(last, high) - Math.max(first, low) + 1)
    .reduce((sum, count) => sum + Math.max(0, count), 0);
}

/** @throws SystemError EFBIG. Local and remote port of each socket, by /proc/net/tcp and its like: `0100007F:1F90 00000000:0000`. */
function socketPorts(namespace: NetworkNamespace, file: string): [number, number][] {
  const text = namespace.run(() => readPodTable(file));
  return [...text.matchAll(/^\s*\d+: [0-9A-F]+:([0-9A-F]{4}) [0-9A-F]+:([0-9A-F]{4})/gm)].map((line) => [
    Number.parseInt(line[1]!, 16),
    Number.parseInt(line[2]!, 16),
  ]);
}

/** errno names that say: no local port was free. */
const WITHOUT_PORT: ReadonlySet<string> = new Set(["EADDRNOTAVAIL", "EADDRINUSE", "EAGAIN"]);

/** Of a pod whose kernel had no port for the exchange. */
export function portsOfFailure(
  pod: NetworkNamespace,
  { protocol, destinationPort }: FlowPattern,
  exchange: Exchange | undefined,
): LocalPorts | undefined {
  if (exchange?.state.kind !== "failed" || !WITHOUT_PORT.has(exchange.state.code)) return undefined;
  return protocol === "icmp" ? undefined : localPorts(pod, protocol, destinationPort ?? 0);
}
