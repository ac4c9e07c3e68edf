/** Limits: whether they are reached depends on what came before; where the kernel tells, the present state is taken. */
import { ipFamily, ipNumber, ipBits } from "../../../address/ip.ts";
import type { connlimit } from "../../../linux/xtables/matches/connlimit.ts";
import type { hashlimit } from "../../../linux/xtables/matches/rates.ts";
import type { Expression } from "../../../linux/nftables/expressions.ts";
import type { HashlimitBucket } from "../../../linux/xtables/hashlimit-table.ts";
import type { Machine } from "../machine.ts";

type ValueOf<D extends { read: (...parameters: never) => unknown }> = ReturnType<D["read"]>;

/** hashlimit_mt: a packet that finds no bucket makes a full one. */
export function hashlimitMatches(machine: Machine, wanted: ValueOf<typeof hashlimit>): boolean {
  const { name, rate, above } = wanted;
  const { hashlimits = [] } = machine.view.state;
  const { family } = machine.packet;
  const table = hashlimits.find((one) => one.name === name && one.family === family);
  const bucket = table?.buckets.find((one) => isBucketOf(machine, wanted, one));
  const reached = bucket !== undefined && bucket.credit < bucket.cost;
  const now =
    bucket === undefined ? "" : `, now with room for ${Math.floor(bucket.credit / bucket.cost)} packets`;
  return machine.ask(`the limit ${name} of ${rate} (hashlimit)${now}`, reached === above, undefined, "rate");
}

/** `10.0.0.2:0->198.51.100.9:8080`: what the mode does not look at is zero. */
function isBucketOf(
  { packet }: Machine,
  { keys, sourceBits, destinationBits }: ValueOf<typeof hashlimit>,
  { key }: HashlimitBucket,
): boolean {
  const [from = "", to = ""] = key.split("->");
  const side = (text: string) => {
    const colon = text.lastIndexOf(":");
    return { address: text.slice(0, colon), port: Number(text.slice(colon + 1)) };
  };
  const [source, destination] = [side(from), side(to)];
  return (
    (!keys.includes("srcip") || sameNetwork(source.address, packet.source, sourceBits)) &&
    (!keys.includes("dstip") || sameNetwork(destination.address, packet.destination, destinationBits)) &&
    (!keys.includes("srcport") || source.port === packet.sourcePort) &&
    (!keys.includes("dstport") || destination.port === packet.destinationPort)
  );
}

function sameNetwork(a: string, b: string, prefixLength: number): boolean {
  const family = ipFamily(b);
  const shift = BigInt(ipBits(family) - prefixLength);
  return ipFamily(a) === family && ipNumber(a) >> shift === ipNumber(b) >> shift;
}

export function connlimitMatches(
  machine: Machine,
  { limit, prefixLength, upTo, by }: ValueOf<typeof connlimit>,
): boolean {
  const address = by === "source" ? machine.packet.source : machine.packet.destination;
  const open = openConnections(machine, by, prefixLength);
  const whose = `${by === "source" ? "from" : "to"} ${address}/${prefixLength}`;
  return machine.ask(
    `a limit of ${limit} connections ${whose}${nowText(open)}`,
    open === undefined ? undefined : open < limit === upTo,
    undefined,
    "rate",
  );
}

/** `ct count` of nft, of all connections or by the key of a set: taken for the source, as it nearly always is. */
export function countMatches(machine: Machine, limit: number, over: boolean, byKey: boolean): boolean {
  const open = openConnections(machine, byKey ? "source" : "all");
  return machine.ask(
    `a limit of ${limit} connections${nowText(open)}`,
    open === undefined ? undefined : open >= limit === over,
    undefined,
    "rate",
  );
}

function nowText(open: number | undefined): string {
  return open === undefined ? "" : `, now ${open} open`;
}

/** Those that are tracked now and pass the rule, the packet's own not among them. */
function openConnections(
  { packet, view, here }: Machine,
  by: "source" | "destination" | "all",
  prefixLength: number = ipBits(packet.family),
): number | undefined {
  const { rule } = here?.() ?? {};
  const protocol = rule === undefined || asksProtocol(rule.expressions) ? packet.protocol : undefined;
  return view.state.conntrack?.connections
    ?.filter(
      (one) =>
        (protocol === undefined || one.protocol === protocol) &&
        (by === "all" || sameNetwork(one[by], packet[by], prefixLength)),
    )
    .reduce((sum, one) => sum + one.open, 0);
}

/** Whether a rule looks at the protocol before it counts: one that does not counts pings and datagrams as well. */
function asksProtocol(expressions: readonly Expression[]): boolean {
  return expressions.some(
    (one) =>
      (one.kind === "meta" && one.key === "l4proto") ||
      (one.kind === "payload" &&
        (one.base === "transport" || (one.base === "network" && one.length === 1))) ||
      (one.kind === "match" && ["tcp", "udp", "sctp", "multiport"].includes(one.name)),
  );
}
