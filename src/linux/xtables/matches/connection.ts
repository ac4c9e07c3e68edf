/** What conntrack counts and remembers of a connection: bytes, labels, helpers. */
import { describe } from "../describe.ts";
import { option, portRange } from "../info.ts";

const WHAT = ["packets", "bytes", "avgpkt"] as const;
const DIRECTIONS = ["original", "reply", "both"] as const;

/** struct xt_connbytes_info: from 0 and to 8, of 64 bits; what 16, direction 17. From above to means inverted. */
export const connbytes = describe({
  name: "connbytes",
  revisions: [0],
  read(info) {
    const [from, to] = [info.u64(0), info.u64(8)];
    const not = from > to;
    return {
      from: not ? to : from,
      to: not ? from : to,
      not,
      what: WHAT[info.u8(16)] ?? "packets",
      direction: DIRECTIONS[info.u8(17)] ?? "both",
    };
  },
  options({ from, to, not, what, direction }) {
    const range = to === 0xffff_ffff_ffff_ffffn ? `${from}` : `${from}:${to}`;
    return [
      option("--connbytes", range, not),
      option("--connbytes-mode", what),
      option("--connbytes-dir", direction),
    ];
  },
});

/** struct xt_connlabel_mtinfo: bit 0, options 2 (invert 1, set 2). */
export const connlabel = describe({
  name: "connlabel",
  revisions: [0],
  read: (info) => ({ bit: info.u16(0), not: (info.u16(2) & 1) !== 0, set: (info.u16(2) & 2) !== 0 }),
  options: ({ bit, not, set }) => [option("--label", `"${bit}"`, not), ...(set ? [option("--set")] : [])],
});

/** struct xt_helper_info: invert 0, name 4. */
export const helper = describe({
  name: "helper",
  revisions: [0],
  read: (info) => ({ helper: info.text(4, 30), not: info.u32(0) !== 0 }),
  options: ({ helper: name, not }) => [option("--helper", name, not)],
});

/** struct xt_cluster_match_info: total_nodes 0, node_mask 4, hash_seed 8, flags 12. */
export const cluster = describe({
  name: "cluster",
  revisions: [0],
  read: (info) => ({
    nodes: info.u32(0),
    mask: info.u32(4),
    seed: info.u32(8),
    not: (info.u32(12) & 1) !== 0,
  }),
  options: ({ nodes, mask, seed, not }) => [
    option("--cluster-local-nodemask", `0x${mask.toString(16).padStart(8, "0")}`, not),
    option("--cluster-total-nodes", nodes),
    option("--cluster-hash-seed", `0x${seed.toString(16).padStart(8, "0")}`),
  ],
});

/** struct xt_nfacct_match_info: name 0. */
export const nfacct = describe({
  name: "nfacct",
  revisions: [0, 1],
  read: (info) => info.text(0, 32),
  options: (name) => [option("--nfacct-name", name)],
});

/** struct xt_quota_info: flags 0, quota 8: what it began with; what is left the kernel does not tell. */
export const quota = describe({
  name: "quota",
  revisions: [0],
  read: (info) => ({ bytes: info.u64(8), not: (info.u32(0) & 1) !== 0 }),
  options: ({ bytes, not }) => [option("--quota", `${bytes}`, not)],
});

/** struct xt_length_info: min 0, max 2, invert 4. */
export const length = describe({
  name: "length",
  revisions: [0],
  read: (info) => ({ first: info.u16(0), last: info.u16(2), not: info.u8(4) !== 0 }),
  options: ({ not, ...range }) => [option("--length", portRange(range), not)],
});
