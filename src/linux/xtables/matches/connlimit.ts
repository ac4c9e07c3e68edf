import { describe } from "../describe.ts";
import { option } from "../info.ts";

/** struct xt_connlimit_info: mask 0, limit 16, flags 20. */
export const connlimit = describe({
  name: "connlimit",
  revisions: [1],
  read(info, _revision, { family }) {
    let prefixLength = 0;
    const size = family === "ip" ? 4 : 16;
    for (let at = 0; at < size; at++) {
      for (let bit = 128; bit > 0 && (info.u8(at) & bit) !== 0; bit >>= 1) prefixLength++;
    }
    const flags = info.u32(20);
    return {
      limit: info.u32(16),
      prefixLength,
      /** Matches while there are no more, instead of from there on. */
      upTo: (flags & 1) !== 0,
      by: (flags & 2) === 0 ? ("source" as const) : ("destination" as const),
    };
  },
  options: ({ limit, prefixLength, upTo, by }) => [
    option(upTo ? "--connlimit-upto" : "--connlimit-above", limit),
    option("--connlimit-mask", prefixLength),
    option(by === "source" ? "--connlimit-saddr" : "--connlimit-daddr"),
  ],
});
