import { describe, wantedIf } from "../describe.ts";
import { bitNames, option } from "../info.ts";

/** Bits of RTN_* (linux/rtnetlink.h). */
const ADDRESS_TYPES = [
  [1, "UNSPEC"],
  [2, "UNICAST"],
  [4, "LOCAL"],
  [8, "BROADCAST"],
  [16, "ANYCAST"],
  [32, "MULTICAST"],
  [64, "BLACKHOLE"],
  [128, "UNREACHABLE"],
  [256, "PROHIBIT"],
  [512, "THROW"],
  [1024, "NAT"],
  [2048, "XRESOLVE"],
] as const;

/** struct xt_addrtype_info has two inversions where xt_addrtype_info_v1 has flags. */
export const addrtype = describe({
  name: "addrtype",
  revisions: [0, 1],
  read(info, revision) {
    const flags = revision > 0 ? info.u32(4) : (info.u32(4) === 0 ? 0 : 1) | (info.u32(8) === 0 ? 0 : 2);
    return {
      source: wantedIf(info.u16(0) !== 0, () => info.u16(0), (flags & 1) !== 0),
      destination: wantedIf(info.u16(2) !== 0, () => info.u16(2), (flags & 2) !== 0),
      limit: (flags & 4) !== 0 ? ("in" as const) : (flags & 8) !== 0 ? ("out" as const) : undefined,
    };
  },
  options: ({ source, destination, limit }) => [
    ...(source === undefined
      ? []
      : [option("--src-type", bitNames(source.value, ADDRESS_TYPES), source.not)]),
    ...(destination === undefined
      ? []
      : [option("--dst-type", bitNames(destination.value, ADDRESS_TYPES), destination.not)]),
    ...(limit === undefined ? [] : [option(`--limit-iface-${limit}`)]),
  ],
});
