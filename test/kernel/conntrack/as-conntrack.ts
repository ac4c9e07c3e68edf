/** An entry as conntrack(8) prints it with `-o extended,id`, to compare line by line. */
import type { ConntrackEntry, ConntrackTuple, FlowCounters } from "../../../src/linux/conntrack/entry.ts";
import type { NetworkNamespace } from "../../../src/kernel/namespace.ts";
import { ask } from "../../support/witness.ts";

/** libnetfilter_conntrack names no other protocols. */
const NAMED = new Set(["tcp", "udp", "udplite", "icmp", "icmpv6", "sctp", "gre", "dccp"]);

/** What changes between two looks: seconds that pass, and references. */
function settled(line: string): string {
  return line
    .replace(/^(\S+\s+\d+\s+\S+\s+\d+) \d+ /, "$1 T ")
    .replace(/ (?:delta-time|use)=\d+/g, "")
    .replace(/\s+/g, " ")
    .trim();
}

/** Lines of `conntrack -L`, sorted. @param options e.g. ["-p", "tcp"] */
export function listed(namespace: NetworkNamespace, options: readonly string[] = []): string[] {
  const lines = new Set<string>();
  for (const family of options.includes("-f")
    ? [[]]
    : [
        ["-f", "ipv4"],
        ["-f", "ipv6"],
      ]) {
    const text = ask(namespace, ["conntrack", "-L", "-o", "extended,id", ...family, ...options]);
    for (const line of text.split("\n")) if (line !== "") lines.add(settled(line));
  }
  return [...lines].sort();
}

/** The same lines, from our entries. */
export function asListed(entries: readonly ConntrackEntry[]): string[] {
  return entries.map((entry) => settled(lineOf(entry))).sort();
}

function lineOf(entry: ConntrackEntry): string {
  const { family, protocol, protocolName, original, reply, flags } = entry;
  const name = NAMED.has(protocolName) ? protocolName : "unknown";
  return [
    family === 4 ? "ipv4 2" : "ipv6 10",
    `${name} ${protocol} ${entry.timeoutSeconds}`,
    entry.state ?? "",
    tupleText(original, entry.counters?.original, "orig"),
    flags.includes("seen-reply") ? "" : "[UNREPLIED]",
    tupleText(reply, entry.counters?.reply, "reply"),
    flags.includes("assured") ? "[ASSURED]" : "",
    `mark=${entry.mark}`,
    entry.zone === 0 ? "" : `zone=${entry.zone}`,
    entry.helper === undefined ? "" : `helper=${entry.helper}`,
    `id=${entry.id}`,
  ]
    .filter((part) => part !== "")
    .join(" ");
}

function tupleText(tuple: ConntrackTuple, counters: FlowCounters | undefined, direction: string): string {
  const { source, destination, sourcePort, icmpId, icmpType, icmpCode, zone } = tuple;
  return [
    `src=${source} dst=${destination}`,
    sourcePort === undefined ? "" : portsText(tuple),
    icmpId === undefined ? "" : `type=${icmpType} code=${icmpCode} id=${icmpId}`,
    zone === undefined ? "" : `zone-${direction}=${zone}`,
    counters === undefined ? "" : `packets=${counters.packets} bytes=${counters.bytes}`,
  ]
    .filter((part) => part !== "")
    .join(" ");
}

/** GRE's keys stand in the place of ports. */
function portsText({ protocol, sourcePort, destinationPort }: ConntrackTuple): string {
  if (protocol !== 47) return `sport=${sourcePort} dport=${destinationPort}`;
  return `srckey=0x${sourcePort!.toString(16)} dstkey=0x${destinationPort!.toString(16)}`;
}
