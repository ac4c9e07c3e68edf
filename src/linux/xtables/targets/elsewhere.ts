/** Targets that hand the packet, or a word about it, to another part of the system. */
import { describe } from "../describe.ts";
import { hexadecimal, option } from "../info.ts";
import { setReference, setText } from "../matches/set.ts";

/** struct xt_log_info: level 0, logflags 1, prefix 2. */
export const LOG = describe({
  name: "LOG",
  revisions: [0],
  read: (info) => ({ level: info.u8(0), flags: info.u8(1), prefix: info.text(2, 30) }),
  options: ({ level, flags, prefix }) => [
    ...(prefix === "" ? [] : [option("--log-prefix", prefix)]),
    ...(level === 4 ? [] : [option("--log-level", level)]),
    ...((flags & 1) === 0 ? [] : [option("--log-tcp-sequence")]),
    ...((flags & 2) === 0 ? [] : [option("--log-tcp-options")]),
    ...((flags & 4) === 0 ? [] : [option("--log-ip-options")]),
    ...((flags & 8) === 0 ? [] : [option("--log-uid")]),
    ...((flags & 32) === 0 ? [] : [option("--log-macdecode")]),
  ],
});

/** struct xt_nflog_info: len 0, group 4, threshold 6, flags 8, prefix 12. */
export const NFLOG = describe({
  name: "NFLOG",
  revisions: [0],
  read: (info) => ({
    length: info.u32(0),
    group: info.u16(4),
    threshold: info.u16(6),
    copiesLength: (info.u16(8) & 1) !== 0,
    prefix: info.text(12, Math.min(64, info.length - 12)),
  }),
  options: ({ length, group, threshold, copiesLength, prefix }) => [
    ...(prefix === "" ? [] : [option("--nflog-prefix", prefix)]),
    ...(group === 0 ? [] : [option("--nflog-group", group)]),
    ...(copiesLength
      ? [option("--nflog-size", length)]
      : length === 0
        ? []
        : [option("--nflog-range", length)]),
    ...(threshold <= 1 ? [] : [option("--nflog-threshold", threshold)]),
  ],
});

/** struct xt_NFQ_info: queuenum 0; from revision 1 on queues_total 2, from 2 on flags 4. */
export const NFQUEUE = describe({
  name: "NFQUEUE",
  revisions: [0, 1, 2, 3],
  read(info, revision) {
    const flags = revision >= 2 ? info.u16(4) : 0;
    return {
      first: info.u16(0),
      total: revision > 0 ? info.u16(2) : 1,
      bypass: (flags & 1) !== 0,
      fanout: (flags & 2) !== 0,
    };
  },
  options: ({ first, total, bypass, fanout }) => [
    total > 1 ? option("--queue-balance", `${first}:${first + total - 1}`) : option("--queue-num", first),
    ...(bypass ? [option("--queue-bypass")] : []),
    ...(fanout ? [option("--queue-cpu-fanout")] : []),
  ],
});

/** struct xt_tproxy_target_info: mark_mask 0, mark_value 4, laddr 8, lport 12; v1 has 16 bytes of address and lport 24. */
export const TPROXY = describe({
  name: "TPROXY",
  revisions: [0, 1],
  read: (info, revision, { family }) => ({
    port: info.be16(revision === 0 ? 12 : 24),
    address: info.address(8, revision === 0 ? "ip" : family),
    mark: info.u32(4),
    mask: info.u32(0),
  }),
  options: ({ port, address, mark, mask }) => [
    option("--on-port", port),
    option("--on-ip", address),
    option("--tproxy-mark", `${hexadecimal(mark)}/${hexadecimal(mask)}`),
  ],
});

/** struct xt_tee_tginfo: gw 0, oif 16. */
export const TEE = describe({
  name: "TEE",
  revisions: [1],
  read: (info, _revision, { family }) => ({ gateway: info.address(0, family), link: info.text(16, 16) }),
  options: ({ gateway, link }) => [
    option("--gateway", gateway),
    ...(link === "" ? [] : [option("--oif", link)]),
  ],
});

/** struct xt_set_info_target_v1 to 3: add_set 0, del_set 4; v3 has map_set 8; then flags and timeout. */
export const SET = describe({
  name: "SET",
  revisions: [1, 2, 3],
  read(info, revision) {
    const flagsAt = revision >= 3 ? 12 : 8;
    const flags = revision >= 2 ? info.u32(flagsAt) : 0;
    return {
      add: setReference(info, 0),
      remove: setReference(info, 4),
      map: revision >= 3 ? setReference(info, 8) : undefined,
      exist: (flags & 1) !== 0,
      timeout: revision >= 2 && info.u32(flagsAt + 4) !== 0xffff_ffff ? info.u32(flagsAt + 4) : undefined,
      mapsMark: (flags & 0x100) !== 0,
      mapsPriority: (flags & 0x200) !== 0,
      mapsQueue: (flags & 0x400) !== 0,
    };
  },
  options: (value, context) => [
    ...(value.add === undefined ? [] : [option("--add-set", setText(value.add, context))]),
    ...(value.exist ? [option("--exist")] : []),
    ...(value.timeout === undefined ? [] : [option("--timeout", value.timeout)]),
    ...(value.remove === undefined ? [] : [option("--del-set", setText(value.remove, context))]),
    ...(value.map === undefined ? [] : [option("--map-set", setText(value.map, context))]),
    ...(value.mapsMark ? [option("--map-mark")] : []),
    ...(value.mapsPriority ? [option("--map-prio")] : []),
    ...(value.mapsQueue ? [option("--map-queue")] : []),
  ],
});

const AUDIT_TYPES = ["accept", "drop", "reject"] as const;

/** struct xt_audit_info: type 0. */
export const AUDIT = describe({
  name: "AUDIT",
  revisions: [0],
  read: (info) => AUDIT_TYPES[info.u8(0)] ?? `${info.u8(0)}`,
  options: (type) => [option("--type", type)],
});

export const TRACE = describe({
  name: "TRACE",
  revisions: [0],
  read: () => undefined,
  options: () => [],
});
