import { describe, wantedIf } from "../describe.ts";
import { option } from "../info.ts";

/** struct xt_iprange_mtinfo: src_min 0, src_max 16, dst_min 32, dst_max 48, flags 64. */
export const iprange = describe({
  name: "iprange",
  revisions: [1],
  read(info, _revision, { family }) {
    const flags = info.u8(64);
    const range = (at: number) => ({
      first: info.address(at, family),
      last: info.address(at + 16, family),
    });
    return {
      source: wantedIf((flags & 1) !== 0, () => range(0), (flags & 16) !== 0),
      destination: wantedIf((flags & 2) !== 0, () => range(32), (flags & 32) !== 0),
    };
  },
  options: ({ source, destination }) => [
    ...(source === undefined
      ? []
      : [option("--src-range", `${source.value.first}-${source.value.last}`, source.not)]),
    ...(destination === undefined
      ? []
      : [option("--dst-range", `${destination.value.first}-${destination.value.last}`, destination.not)]),
  ],
});
