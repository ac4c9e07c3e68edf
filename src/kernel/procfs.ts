/**
 * Counters that the kernel keeps anyway and that cost nothing to read: /proc/net of a namespace. The parsers are pure
 * and keep every counter, also those that a newer kernel adds.
 */
import { codeOf } from "../error.ts";
import { readFileSync } from "node:fs";
import { canonicalIp, ipText } from "../address/ip.ts";
import type { NetworkNamespace } from "./namespace.ts";
import { present } from "../present.ts";

/** Counters by group and name: "Ip.ForwDatagrams", "TcpExt.IPReversePathFilter", "Ip6.OutNoRoutes". */
export type Counters = Readonly<Record<string, number>>;

/** Follows the calling thread; /proc/net follows the process's first thread. */
const PROC_NET = "/proc/thread-self/net";

/** /proc/net/snmp and /proc/net/netstat: lines in pairs, names and then values, both led by "Group:". */
export function parseSnmp(text: string): Counters {
  const counters: Record<string, number> = {};
  const lines = text.split("\n");
  for (let i = 0; i + 1 < lines.length; i += 2) {
    const [group, ...names] = lines[i]!.split(" ");
    const [sameGroup, ...values] = lines[i + 1]!.split(" ");
    if (group === undefined || !group.endsWith(":") || group !== sameGroup) continue;
    for (const [index, name] of names.entries()) {
      const value = Number(values[index]);
      if (name !== "" && values[index] !== undefined && Number.isFinite(value)) {
        counters[`${group.slice(0, -1)}.${name}`] = value;
      }
    }
  }
  return counters;
}

/** The groups of /proc/net/snmp6, which has no separator: longer names first. */
const SNMP6_GROUPS = ["UdpLite6", "Icmp6", "Udp6", "Ip6"];

/** /proc/net/snmp6: a counter a line, "Ip6OutNoRoutes 12". */
export function parseSnmp6(text: string): Counters {
  const counters: Record<string, number> = {};
  for (const line of text.split("\n")) {
    const [name, value] = line.trim().split(/\s+/);
    if (name === undefined || value === undefined || !Number.isFinite(Number(value))) continue;
    const group = SNMP6_GROUPS.find((candidate) => name.startsWith(candidate));
    counters[group === undefined ? name : `${group}.${name.slice(group.length)}`] = Number(value);
  }
  return counters;
}

/** /proc/net/stat/*: a line of names, then a line of hexadecimal numbers for each CPU. */
export function parseCpuStatistics(text: string): Counters[] {
  const [head = "", ...lines] = text.split("\n");
  const names = head.trim().split(/\s+/);
  return lines
    .filter((line) => line.trim() !== "")
    .map((line) => {
      const counters: Record<string, number> = {};
      for (const [index, value] of line.trim().split(/\s+/).entries()) {
        const name = names[index];
        if (name !== undefined && /^[0-9a-f]+$/i.test(value)) counters[name] = Number.parseInt(value, 16);
      }
      return counters;
    });
}

/** Fields of /proc/net/stat that say the same on every line: how full the table is, not what a CPU did. */
const SHARED: ReadonlySet<string> = new Set(["entries"]);

/** One record of all CPUs together. */
export function sumCpuStatistics(cpus: readonly Counters[]): Counters {
  const sum: Record<string, number> = {};
  for (const [index, cpu] of cpus.entries()) {
    for (const [name, value] of Object.entries(cpu)) {
      if (index > 0 && SHARED.has(name)) continue;
      sum[name] = (sum[name] ?? 0) + value;
    }
  }
  return sum;
}

/** What grew between two readings, by how much. A counter that is missing before counts from 0. */
export function counterGrowth(before: Counters, after: Counters): Counters {
  const growth: Record<string, number> = {};
  for (const [name, value] of Object.entries(after)) {
    const delta = value - (before[name] ?? 0);
    if (delta !== 0) growth[name] = delta;
  }
  return growth;
}

/**
 * The counters of /proc/net/snmp, netstat and snmp6 (where there is IPv6) of a namespace.
 * @param namespace the calling thread's when undefined
 */
export function networkCounters(namespace: NetworkNamespace | undefined): Counters {
  const read = (): Counters => ({
    ...parseSnmp(readProcNet("snmp") ?? ""),
    ...parseSnmp(readProcNet("netstat") ?? ""),
    ...parseSnmp6(readProcNet("snmp6") ?? ""),
  });
  return namespace === undefined ? read() : namespace.run(read);
}

/**
 * /proc/net/stat/NAME, a record for each CPU; undefined when there is none. "nf_conntrack" is of the namespace;
 * "arp_cache" and "ndisc_cache" are of the whole machine and stand in its first namespace only.
 */
export function cpuStatistics(
  namespace: NetworkNamespace | undefined,
  name: "nf_conntrack" | "arp_cache" | "ndisc_cache" | "rt_cache",
): readonly Counters[] | undefined {
  const read = (): string | undefined => readProcNet(`stat/${name}`);
  const text = namespace === undefined ? read() : namespace.run(read);
  return text === undefined ? undefined : parseCpuStatistics(text);
}

function readProcNet(file: string): string | undefined {
  try {
    return readFileSync(`${PROC_NET}/${file}`, "utf8");
  } catch (error) {
    if (codeOf(error) === "ENOENT") return undefined;
    throw error;
  }
}

/** A virtual service of IPVS (kube-proxy's mode ipvs): the kernel takes its packets at the input hook. */
export interface VirtualService {
  readonly protocol: "tcp" | "udp" | "sctp";
  readonly address: string;
  readonly port: number;
  /** It takes what has this mark, whatever its protocol, address and port, which then say nothing. */
  readonly mark?: number;
  /** Servers that get new connections. */
  readonly destinations: number;
  /** Absent in older snapshots, and where there are more than are told. */
  readonly servers?: readonly RealServer[];
}

/** A server of a virtual service. */
export interface RealServer {
  readonly address: string;
  readonly port: number;
  /** 0: it keeps the connections that it has, and gets no new ones. */
  readonly weight: number;
  /** `masq`, `route`, `tunnel`, `local`. */
  readonly forward: string;
}

/** Servers of one service that are told. */
const MOST_SERVERS = 1024;

/** Undefined where IPVS is not loaded. */
export function virtualServices(namespace: NetworkNamespace): VirtualService[] | undefined {
  try {
    return parseVirtualServices(namespace.run(() => readFileSync(`${PROC_NET}/ip_vs`, "utf8")));
  } catch (error) {
    if (codeOf(error) === "ENOENT") return undefined;
    throw error;
  }
}

/** /proc/net/ip_vs: a service a line, addresses in hexadecimal (IPv6 in brackets), its destinations below it. */
export function parseVirtualServices(text: string): VirtualService[] {
  const services: (Omit<VirtualService, "destinations" | "servers"> & { readonly servers: RealServer[] })[] =
    [];
  for (const line of text.split("\n")) {
    const service = /^(TCP|UDP|SCTP)\s+(?:\[([0-9a-f:]+)\]|([0-9A-F]{8})):([0-9A-F]{4})\b/i.exec(line);
    if (service !== null) {
      const [, protocol, long, short, port] = service;
      services.push({
        protocol: protocol!.toLowerCase() as VirtualService["protocol"],
        address: long === undefined ? dotted(short!) : canonicalIp(long),
        port: Number.parseInt(port!, 16),
        servers: [],
      });
      continue;
    }
    const marked = /^FWM\s+([0-9A-F]{8})\b/i.exec(line);
    if (marked !== null) {
      const mark = Number.parseInt(marked[1]!, 16);
      services.push({ protocol: "tcp", address: "0.0.0.0", port: 0, mark, servers: [] });
      continue;
    }
    const server = serverOf(line);
    if (server !== undefined) services.at(-1)?.servers.push(server);
  }
  return services.map(({ servers, ...service }) => ({
    ...service,
    destinations: servers.filter(({ weight }) => weight > 0).length,
    ...present({ servers: servers.length > MOST_SERVERS ? undefined : servers }),
  }));
}

function serverOf(line: string): RealServer | undefined {
  const found = /^\s+->\s+(?:\[([0-9a-f:]+)\]|([0-9A-F]{8})):([0-9A-F]{4})\s+(\w+)\s+(\d+)\b/i.exec(line);
  if (found === null) return undefined;
  const [, long, short, port, forward, weight] = found;
  return {
    address: long === undefined ? dotted(short!) : canonicalIp(long),
    port: Number.parseInt(port!, 16),
    weight: Number(weight),
    forward: forward!.toLowerCase(),
  };
}

function dotted(hex: string): string {
  return ipText(Uint8Array.from(Buffer.from(hex, "hex")));
}
