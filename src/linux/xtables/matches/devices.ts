/** Where a packet comes in and goes out. */
import { macText } from "../../../address/mac.ts";
import { describe, wantedIf } from "../describe.ts";
import { markText, option, type XtInfo } from "../info.ts";
import { decodeUtf8 } from "../../../platform/bytes.ts";

export interface NamePattern {
  readonly name: Uint8Array;
  readonly mask: Uint8Array;
}

function pattern(info: XtInfo, at: number): NamePattern {
  return { name: info.part(at, 16), mask: info.part(at + 16, 16) };
}

/** A mask that ends with the name, and not with its NUL, is a wildcard. */
function patternText({ name, mask }: NamePattern): string {
  const end = name.indexOf(0);
  const text = decodeUtf8(name.subarray(0, end < 0 ? 16 : end));
  return mask[text.length] === 0 && !text.endsWith("+") ? `${text}+` : text;
}

/** struct xt_physdev_info: physindev 0, in_mask 16, physoutdev 32, out_mask 48, invert 64, bitmask 65. */
export const physdev = describe({
  name: "physdev",
  revisions: [0],
  read(info) {
    const inverted = info.u8(64);
    const part = <T>(bit: number, value: () => T) =>
      wantedIf((info.u8(65) & bit) !== 0, value, (inverted & bit) !== 0);
    const yes = () => true as const;
    return {
      in: part(1, () => pattern(info, 0)),
      out: part(2, () => pattern(info, 32)),
      isBridged: part(4, yes),
      isIn: part(8, yes),
      isOut: part(16, yes),
    };
  },
  options: (value) => [
    ...(value.isIn === undefined ? [] : [option("--physdev-is-in", undefined, value.isIn.not)]),
    ...(value.in === undefined ? [] : [option("--physdev-in", patternText(value.in.value), value.in.not)]),
    ...(value.isOut === undefined ? [] : [option("--physdev-is-out", undefined, value.isOut.not)]),
    ...(value.out === undefined
      ? []
      : [option("--physdev-out", patternText(value.out.value), value.out.not)]),
    ...(value.isBridged === undefined
      ? []
      : [option("--physdev-is-bridged", undefined, value.isBridged.not)]),
  ],
});

/** struct xt_devgroup_info: flags 0, src_group 4, src_mask 8, dst_group 12, dst_mask 16. */
export const devgroup = describe({
  name: "devgroup",
  revisions: [0],
  read(info) {
    const flags = info.u32(0);
    const group = (at: number) => ({ group: info.u32(at), mask: info.u32(at + 4) });
    return {
      in: wantedIf((flags & 1) !== 0, () => group(4), (flags & 2) !== 0),
      out: wantedIf((flags & 4) !== 0, () => group(12), (flags & 8) !== 0),
    };
  },
  options(value) {
    const text = (one: { group: number; mask: number }): string =>
      one.mask === 0xffff_ffff && one.group === 0 ? "default" : markText(one.group, one.mask);
    return [
      ...(value.in === undefined ? [] : [option("--src-group", text(value.in.value), value.in.not)]),
      ...(value.out === undefined ? [] : [option("--dst-group", text(value.out.value), value.out.not)]),
    ];
  },
});

/** struct xt_mac_info: srcaddr 0, invert 8. */
export const mac = describe({
  name: "mac",
  revisions: [0],
  read: (info) => ({ mac: macText(info.part(0, 6), 0, 6), not: info.u32(8) !== 0 }),
  options: ({ mac: address, not }) => [option("--mac-source", address, not)],
});

const PACKET_TYPES = ["unicast", "broadcast", "multicast"] as const;

/** struct xt_pkttype_info: pkttype 0 (PACKET_HOST, …), invert 4. */
export const pkttype = describe({
  name: "pkttype",
  revisions: [0],
  read: (info) => ({ type: info.u32(0), not: info.u32(4) !== 0 }),
  options: ({ type, not }) => [option("--pkt-type", PACKET_TYPES[type] ?? type, not)],
});

/** struct xt_rpfilter_info: flags 0. */
export const rpfilter = describe({
  name: "rpfilter",
  revisions: [0],
  read(info) {
    const flags = info.u8(0);
    return {
      loose: (flags & 1) !== 0,
      validMark: (flags & 2) !== 0,
      acceptLocal: (flags & 4) !== 0,
      not: (flags & 8) !== 0,
    };
  },
  options: ({ loose, validMark, acceptLocal, not }) => [
    ...(loose ? [option("--loose")] : []),
    ...(validMark ? [option("--validmark")] : []),
    ...(acceptLocal ? [option("--accept-local")] : []),
    ...(not ? [option("--invert")] : []),
  ],
});

/** struct xt_realm_info: id 0, mask 4, invert 8. */
export const realm = describe({
  name: "realm",
  revisions: [0],
  read: (info) => ({ id: info.u32(0), mask: info.u32(4), not: info.u8(8) !== 0 }),
  options: ({ id, mask, not }) => [option("--realm", markText(id, mask), not)],
});

/** struct xt_cpu_info: cpu 0, invert 4. */
export const cpu = describe({
  name: "cpu",
  revisions: [0],
  read: (info) => ({ cpu: info.u32(0), not: info.u32(4) !== 0 }),
  options: ({ cpu: number, not }) => [option("--cpu", number, not)],
});
