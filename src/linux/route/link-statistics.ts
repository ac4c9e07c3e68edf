import type { Codec } from "../netlink/codec.ts";
import { DecodeError } from "../netlink/wire.ts";

/** struct rtnl_link_stats64 (include/uapi/linux/if_link.h), in order. Newer kernels append fields. */
const FIELDS = [
  "rxPackets",
  "txPackets",
  "rxBytes",
  "txBytes",
  "rxErrors",
  "txErrors",
  "rxDropped",
  "txDropped",
  "multicast",
  "collisions",
  "rxLengthErrors",
  "rxOverErrors",
  "rxCrcErrors",
  "rxFrameErrors",
  "rxFifoErrors",
  "rxMissedErrors",
  "txAbortedErrors",
  "txCarrierErrors",
  "txFifoErrors",
  "txHeartbeatErrors",
  "txWindowErrors",
  "rxCompressed",
  "txCompressed",
  "rxNoHandler",
  "rxOtherHostDropped",
] as const;

/** What passed through a link since it was made. Exact up to 2^53; a field that this kernel lacks is 0. */
export type LinkStatistics = Readonly<Record<(typeof FIELDS)[number], number>>;

/** The structure has grown twice (Linux 4.6, 5.19): whatever is there is read, the rest is zero. */
export const linkStatistics: Codec<LinkStatistics> = {
  kind: "rtnl_link_stats64",
  write(writer, value) {
    for (const field of FIELDS) {
      const at = writer.reserve(8);
      writer.view.setBigUint64(at, BigInt(value[field]), true);
    }
  },
  read(wire, start, end) {
    if ((end - start) % 8 !== 0) throw new DecodeError("", `${end - start} bytes are no list of counters`);
    const value = {} as Record<(typeof FIELDS)[number], number>;
    let at = start;
    for (const field of FIELDS) {
      value[field] =
        at + 8 > end ? 0 : wire.view.getUint32(at, true) + wire.view.getUint32(at + 4, true) * 2 ** 32;
      at += 8;
    }
    return value;
  },
};
