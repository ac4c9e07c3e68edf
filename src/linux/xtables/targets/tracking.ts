/** What connection tracking shall do with a packet: CT, NOTRACK. */
import type { Zone } from "../../netfilter.ts";
import { describe } from "../describe.ts";
import { bitNames, option } from "../info.ts";

/** XT_CT_* */
const FLAG = { notrack: 1, alias: 2, original: 4, reply: 8, zoneByMark: 16 } as const;
const EVENTS = [
  "new",
  "related",
  "destroy",
  "reply",
  "assured",
  "protoinfo",
  "helper",
  "mark",
  "natseqinfo",
  "secmark",
].map((name, bit) => [1 << bit, name] as const);

/** struct xt_ct_target_info: flags 0, zone 2, ct_events 4, exp_events 8, helper 12; v1 has a timeout policy at 28. */
export const CT = describe({
  name: "CT",
  revisions: [0, 1, 2],
  read(info, revision) {
    const flags = info.u16(0);
    const direction: Zone["direction"] =
      (flags & FLAG.original) !== 0 ? "original" : (flags & FLAG.reply) !== 0 ? "reply" : "both";
    return {
      notrack: (flags & FLAG.notrack) !== 0,
      /** It was written as -j NOTRACK. */
      isNotrack: (flags & FLAG.alias) !== 0,
      zone: { id: info.u16(2), direction },
      zoneByMark: (flags & FLAG.zoneByMark) !== 0,
      events: info.u32(4),
      expectationEvents: info.u32(8),
      helper: info.text(12, 16),
      timeout: revision === 0 ? "" : info.text(28, 32),
    };
  },
  options(value) {
    const { zone, zoneByMark } = value;
    const zoneOption = { both: "--zone", original: "--zone-orig", reply: "--zone-reply" }[zone.direction];
    return [
      ...(value.notrack && !value.isNotrack ? [option("--notrack")] : []),
      ...(value.helper === "" ? [] : [option("--helper", value.helper)]),
      ...(value.timeout === "" ? [] : [option("--timeout", value.timeout)]),
      ...(value.events === 0 ? [] : [option("--ctevents", bitNames(value.events, EVENTS))]),
      ...(value.expectationEvents === 0 ? [] : [option("--expevents", "new")]),
      ...(zoneByMark ? [option(zoneOption, "mark")] : zone.id === 0 ? [] : [option(zoneOption, zone.id)]),
    ];
  },
  writtenAs: ({ isNotrack }) => (isNotrack ? "NOTRACK" : "CT"),
});

export const NOTRACK = describe({
  name: "NOTRACK",
  revisions: [0],
  read: () => undefined,
  options: () => [],
});
