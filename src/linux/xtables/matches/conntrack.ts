import { CT_STATE } from "../../netfilter.ts";
import { describe, wantedIf, type Range, type Wanted } from "../describe.ts";
import { bitNames, hostOrNetwork, option, portRange, type XtInfo } from "../info.ts";

/** XT_CONNTRACK_STATE_*: those of `ct state`, and three more. */
export const CONNTRACK_STATE = {
  invalid: CT_STATE.invalid,
  established: CT_STATE.established,
  related: CT_STATE.related,
  new: CT_STATE.new,
  snat: 64,
  dnat: 128,
  untracked: 256,
} as const;

const STATES = (["invalid", "new", "related", "established", "untracked", "snat", "dnat"] as const).map(
  (name) => [CONNTRACK_STATE[name], name.toUpperCase()] as const,
);

const STATUSES = [
  [1, "EXPECTED"],
  [2, "SEEN_REPLY"],
  [4, "ASSURED"],
  [8, "CONFIRMED"],
] as const;

/** XT_CONNTRACK_* bits: which parts are asked for. */
const CT = {
  state: 1,
  proto: 2,
  origsrc: 4,
  origdst: 8,
  replsrc: 16,
  repldst: 32,
  status: 64,
  expires: 128,
  origsrcport: 256,
  origdstport: 512,
  replsrcport: 1024,
  repldstport: 2048,
  direction: 4096,
  stateAlias: 8192,
} as const;

const ADDRESSES = ["origsrc", "origdst", "replsrc", "repldst"] as const;
const PORTS = ["origsrcport", "origdstport", "replsrcport", "repldstport"] as const;

export interface MaskedAddress {
  readonly address: Uint8Array;
  readonly mask: Uint8Array;
}

type Parts = {
  readonly [K in (typeof ADDRESSES)[number]]?: Wanted<MaskedAddress>;
} & {
  readonly [K in (typeof PORTS)[number]]?: Wanted<Range>;
};

export interface ConntrackMatch extends Parts {
  readonly state: Wanted<number> | undefined;
  readonly protocol: Wanted<number> | undefined;
  readonly status: Wanted<number> | undefined;
  readonly expires: Wanted<Range> | undefined;
  readonly direction: "original" | "reply" | undefined;
  /** It was written as `-m state`. */
  readonly isState: boolean;
}

/** struct xt_conntrack_mtinfo1 to 3: four pairs of address and mask, then the numbers; revision 1 has bytes for masks. */
function read(info: XtInfo, revision: number, size: number): ConntrackMatch {
  const flags = info.u16(146);
  const inverted = info.u16(148);
  const part = <T>(name: keyof typeof CT, value: () => T): Wanted<T> | undefined =>
    wantedIf((flags & CT[name]) !== 0, value, (inverted & CT[name]) !== 0);
  // Revision 3 has ranges, in host order; before there is one port, in network order.
  const ports = (index: number): Range => {
    const at = 138 + index * 2;
    if (revision < 3) return { first: info.be16(at), last: info.be16(at) };
    return { first: info.u16(at), last: info.u16(154 + index * 2) };
  };
  const parts: Record<string, unknown> = {};
  for (const [index, name] of ADDRESSES.entries()) {
    const at = index * 32;
    parts[name] = part(name, () => ({ address: info.part(at, size), mask: info.part(at + 16, size) }));
  }
  for (const [index, name] of PORTS.entries()) parts[name] = part(name, () => ports(index));
  return {
    ...(parts as Parts),
    state: part("state", () => (revision === 1 ? info.u8(150) : info.u16(150))),
    protocol: part("proto", () => info.u16(136)),
    status: part("status", () => (revision === 1 ? info.u8(151) : info.u16(152))),
    expires: part("expires", () => ({ first: info.u32(128), last: info.u32(132) })),
    direction:
      (flags & CT.direction) === 0 ? undefined : (inverted & CT.direction) === 0 ? "original" : "reply",
    isState: (flags & CT.stateAlias) !== 0,
  };
}

export const conntrack = describe<ConntrackMatch>({
  name: "conntrack",
  revisions: [1, 2, 3],
  read: (info, revision, { family }) => read(info, revision, family === "ip" ? 4 : 16),
  options(value) {
    const { state, protocol, status, expires, direction, isState } = value;
    if (isState && state !== undefined) return [option("--state", bitNames(state.value, STATES), state.not)];
    const addresses = ADDRESSES.flatMap((name) => {
      const one = value[name];
      if (one === undefined) return [];
      const { address, mask } = one.value;
      return [option(`--ct${name}`, hostOrNetwork(address, mask), one.not)];
    });
    const ports = PORTS.flatMap((name) => {
      const one = value[name];
      return one === undefined ? [] : [option(`--ct${name}`, portRange(one.value), one.not)];
    });
    return [
      ...(state === undefined ? [] : [option("--ctstate", bitNames(state.value, STATES), state.not)]),
      ...(protocol === undefined ? [] : [option("--ctproto", protocol.value, protocol.not)]),
      ...addresses,
      ...ports,
      ...(status === undefined
        ? []
        : [option("--ctstatus", status.value === 0 ? "NONE" : bitNames(status.value, STATUSES), status.not)]),
      ...(expires === undefined ? [] : [option("--ctexpire", portRange(expires.value), expires.not)]),
      ...(direction === undefined ? [] : [option("--ctdir", direction.toUpperCase())]),
    ];
  },
  writtenAs: ({ isState }) => (isState ? "state" : "conntrack"),
});

/** struct xt_state_info, of iptables-legacy. */
export const state = describe({
  name: "state",
  revisions: [0],
  read: (info) => info.u32(0),
  options: (bits) => [
    option(
      "--state",
      // Only INVALID to NEW stand at the same bits; UNTRACKED is 64 here (IP_CT_NUMBER + 1).
      bitNames((bits & 15) | ((bits & 64) === 0 ? 0 : CONNTRACK_STATE.untracked), STATES),
    ),
  ],
});
