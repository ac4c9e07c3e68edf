import { familyOf, type IpFamily } from "../../address/ip.ts";
import type { AttributesOf } from "../netlink/attributes.ts";
import { NFPROTO } from "../netfilter.ts";
import { CTA_FILTER_F, type cta, type ctaTuple } from "./attributes.ts";
import type { ConntrackEntry, ConntrackTuple } from "./entry.ts";
import { present } from "../../present.ts";

/** Fields of one direction that must be equal; those left out may be anything. */
export interface TupleFilter {
  readonly source?: string;
  readonly destination?: string;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
}

/** What an entry must have. All of it together; an empty filter takes every entry. */
export interface ConntrackFilter {
  readonly family?: IpFamily;
  /** IPPROTO_*. */
  readonly protocol?: number;
  /** (mark & mask) === value; the mask is all bits when absent. */
  readonly mark?: { readonly value: number; readonly mask?: number };
  /** The zone of both directions or of one of them. */
  readonly zone?: number;
  /** (status & mask) === value, IPS_* bits. */
  readonly status?: { readonly value: number; readonly mask: number };
  readonly original?: TupleFilter;
  readonly reply?: TupleFilter;
}

interface FilterRequest {
  readonly header: { readonly family: number };
  readonly attributes: AttributesOf<typeof cta>;
}

/**
 * The part of a filter that the kernel understands. It may let more through than the filter (older kernels ignore
 * what they do not know), never less.
 *
 * Two things are left out on purpose. Addresses of IPv6: ctnetlink_filter_match_tuple compares them the wrong way
 * round (`!ipv6_addr_cmp`), so that the kernel hands over exactly the others. And ports without a protocol: it refuses
 * them.
 */
export function kernelFilter(filter: ConntrackFilter): FilterRequest {
  const family = filter.family ?? familyOfAddresses(filter);
  const attributes: AttributesOf<typeof cta> = {
    ...(filter.mark === undefined
      ? {}
      : { mark: filter.mark.value, markMask: filter.mark.mask ?? 0xffff_ffff }),
    ...present({ zone: filter.zone }),
    ...(filter.status === undefined ? {} : { status: filter.status.value, statusMask: filter.status.mask }),
  };
  if (family === undefined) return { header: { family: NFPROTO.unspec }, attributes };
  const original = kernelTuple(filter.original ?? {}, family, filter.protocol);
  const reply = kernelTuple(filter.reply ?? {}, family, filter.protocol);
  const nothing = original.flags === 0 && reply.flags === 0;
  return {
    header: { family: family === 4 ? NFPROTO.ipv4 : NFPROTO.ipv6 },
    attributes: nothing
      ? attributes
      : {
          ...attributes,
          ...present({
            original: original.flags === 0 ? undefined : original.tuple,
            reply: reply.flags === 0 ? undefined : reply.tuple,
          }),
          filter: { originalFlags: original.flags, replyFlags: reply.flags },
        },
  };
}

function kernelTuple(
  filter: TupleFilter,
  family: IpFamily,
  protocol: number | undefined,
): { readonly flags: number; readonly tuple: AttributesOf<typeof ctaTuple> } {
  let flags = 0;
  const source = family === 4 ? filter.source : undefined;
  const destination = family === 4 ? filter.destination : undefined;
  if (source !== undefined) flags |= CTA_FILTER_F.ipSource;
  if (destination !== undefined) flags |= CTA_FILTER_F.ipDestination;
  if (protocol !== undefined) {
    flags |= CTA_FILTER_F.protoNumber;
    if (filter.sourcePort !== undefined) flags |= CTA_FILTER_F.sourcePort;
    if (filter.destinationPort !== undefined) flags |= CTA_FILTER_F.destinationPort;
  }
  return {
    flags,
    tuple: {
      ip: present({
        v4Source: source,
        v4Destination: destination,
      }),
      proto: present({
        number: protocol,
        sourcePort: filter.sourcePort,
        destinationPort: filter.destinationPort,
      }),
    },
  };
}

function familyOfAddresses(filter: ConntrackFilter): IpFamily | undefined {
  for (const tuple of [filter.original, filter.reply]) {
    for (const address of [tuple?.source, tuple?.destination]) {
      if (address !== undefined) return familyOf(address);
    }
  }
  return undefined;
}

/** Whether an entry passes, every field checked here, whatever the kernel did. */
export function passes(entry: ConntrackEntry, filter: ConntrackFilter): boolean {
  const { family, protocol, mark, zone, status } = filter;
  if (family !== undefined && entry.family !== family) return false;
  if (protocol !== undefined && entry.protocol !== protocol) return false;
  if (mark !== undefined && (entry.mark & (mark.mask ?? 0xffff_ffff)) >>> 0 !== mark.value >>> 0)
    return false;
  if (status !== undefined && (entry.status & status.mask) >>> 0 !== status.value >>> 0) return false;
  if (zone !== undefined && zoneOf(entry) !== zone) return false;
  return (
    (filter.original === undefined || tuplePasses(entry.original, filter.original)) &&
    (filter.reply === undefined || tuplePasses(entry.reply, filter.reply))
  );
}

/** An entry has one zone; it may hold for one direction only. */
function zoneOf(entry: ConntrackEntry): number {
  return entry.original.zone ?? entry.reply.zone ?? entry.zone;
}

function tuplePasses(tuple: ConntrackTuple, filter: TupleFilter): boolean {
  return (
    (filter.source === undefined || tuple.source === filter.source) &&
    (filter.destination === undefined || tuple.destination === filter.destination) &&
    (filter.sourcePort === undefined || tuple.sourcePort === filter.sourcePort) &&
    (filter.destinationPort === undefined || tuple.destinationPort === filter.destinationPort)
  );
}
