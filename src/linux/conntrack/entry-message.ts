/** An entry as the kernel would send it: so what others track is filtered, sorted and printed as the kernel's own. */
import { familyOf } from "../../address/ip.ts";
import { IP_PROTOCOL } from "../ip-protocol.ts";
import { NFPROTO } from "../netfilter.ts";
import type { AttributesOf } from "../netlink/attributes.ts";
import { Writer } from "../netlink/wire.ts";
import { IPCTNL_MSG_CT_NEW, type ctaTuple } from "./attributes.ts";
import type { ConntrackEntry, ConntrackTuple } from "./entry.ts";
import { TCP_STATES } from "./status.ts";

/**
 * The bytes behind struct nlmsghdr, for EntryScan.point. Of what an entry may have, that which somebody else than the
 * kernel knows: tuples, status, the state of TCP, time left, counters, when it began.
 */
export function entryMessage(entry: Omit<ConntrackEntry, "protocolName" | "flags">): Uint8Array {
  const { family, original, reply, status, state, timeoutSeconds, mark, zone, id } = entry;
  const { counters, startedAtMs } = entry;
  const writer = new Writer();
  IPCTNL_MSG_CT_NEW.header.write(writer, { family: family === 6 ? NFPROTO.ipv6 : NFPROTO.ipv4 });
  IPCTNL_MSG_CT_NEW.attributes.write(writer, {
    original: tupleAttributes(original),
    reply: tupleAttributes(reply),
    status,
    mark,
    zone,
    id,
    ...(state === undefined ? {} : { protoinfo: { tcp: { state: tcpState(state) } } }),
    ...(timeoutSeconds === undefined ? {} : { timeout: timeoutSeconds }),
    ...(counters === undefined ? {} : { countersOriginal: counters.original, countersReply: counters.reply }),
    ...(startedAtMs === undefined
      ? {}
      : { timestamp: { start: BigInt(Math.round(startedAtMs * 1000)) * 1000n } }),
  });
  return writer.done().slice();
}

/** A tuple as CTA_TUPLE_ORIG or CTA_TUPLE_REPLY. */
export function tupleAttributes(tuple: ConntrackTuple): AttributesOf<typeof ctaTuple> {
  const v6 = familyOf(tuple.source) === 6;
  const { protocol, sourcePort, destinationPort, icmpId, icmpType, icmpCode, zone } = tuple;
  return {
    ip: v6
      ? { v6Source: tuple.source, v6Destination: tuple.destination }
      : { v4Source: tuple.source, v4Destination: tuple.destination },
    proto: {
      number: protocol,
      ...(sourcePort === undefined ? {} : { sourcePort }),
      ...(destinationPort === undefined ? {} : { destinationPort }),
      ...(protocol === IP_PROTOCOL.icmp && icmpId !== undefined ? { icmpId } : {}),
      ...(protocol === IP_PROTOCOL.icmp && icmpType !== undefined ? { icmpType } : {}),
      ...(protocol === IP_PROTOCOL.icmp && icmpCode !== undefined ? { icmpCode } : {}),
      ...(protocol === IP_PROTOCOL.icmpv6 && icmpId !== undefined ? { icmpv6Id: icmpId } : {}),
      ...(protocol === IP_PROTOCOL.icmpv6 && icmpType !== undefined ? { icmpv6Type: icmpType } : {}),
      ...(protocol === IP_PROTOCOL.icmpv6 && icmpCode !== undefined ? { icmpv6Code: icmpCode } : {}),
    },
    ...(zone === undefined ? {} : { zone }),
  };
}

function tcpState(name: string): number {
  return TCP_STATES.indexOf(name as (typeof TCP_STATES)[number]);
}
