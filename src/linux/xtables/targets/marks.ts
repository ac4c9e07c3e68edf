/** Marks: of the packet, of its connection, of both. */
import { describe } from "../describe.ts";
import { hexadecimal, option } from "../info.ts";

/** struct xt_mark_tginfo2: mark 0, mask 4. iptables-save writes every MARK as --set-xmark. */
export const MARK = describe({
  name: "MARK",
  revisions: [2],
  read: (info) => ({ mark: info.u32(0), mask: info.u32(4) }),
  options: ({ mark, mask }) => [option("--set-xmark", `${hexadecimal(mark)}/${hexadecimal(mask)}`)],
});

const MODES = ["set", "save", "restore"] as const;

/**
 * struct xt_connmark_tginfo1: ctmark 0, ctmask 4, nfmask 8, mode 12. Revision 2 has a shift in front of the mode:
 * direction 12 (1 right), bits 13, mode 14.
 */
export const CONNMARK = describe({
  name: "CONNMARK",
  revisions: [1, 2],
  read(info, revision) {
    const bits = revision < 2 ? 0 : info.u8(13);
    return {
      mode: MODES[info.u8(revision < 2 ? 12 : 14)] ?? "set",
      mark: info.u32(0),
      connectionMask: info.u32(4),
      packetMask: info.u32(8),
      shift: bits === 0 ? undefined : { bits, right: info.u8(12) === 1 },
    };
  },
  options({ mode, mark, connectionMask, packetMask, shift }) {
    const shiftOption =
      shift === undefined
        ? []
        : [option(shift.right ? "--right-shift-mark" : "--left-shift-mark", shift.bits)];
    if (mode === "set") {
      return [option("--set-xmark", `${hexadecimal(mark)}/${hexadecimal(connectionMask)}`), ...shiftOption];
    }
    return [
      option(`--${mode}-mark`),
      option("--nfmask", hexadecimal(packetMask)),
      option("--ctmask", hexadecimal(connectionMask)),
      ...shiftOption,
    ];
  },
});

/** struct xt_secmark_target_info: mode 0, secid 4, secctx 8; revision 1 has the text at 1. */
export const SECMARK = describe({
  name: "SECMARK",
  revisions: [0, 1],
  read: (info, revision) => info.text(revision === 0 ? 8 : 1, 256),
  options: (context) => [option("--selctx", context)],
});

/** struct xt_connsecmark_target_info: mode 0 (1 save, 2 restore). */
export const CONNSECMARK = describe({
  name: "CONNSECMARK",
  revisions: [0],
  read: (info) => (info.u8(0) === 1 ? ("save" as const) : ("restore" as const)),
  options: (mode) => [option(`--${mode}`)],
});

const hexFour = (value: number): string => value.toString(16).padStart(4, "0");

/** struct xt_classify_target_info: priority 0. */
export const CLASSIFY = describe({
  name: "CLASSIFY",
  revisions: [0],
  read: (info) => info.u32(0),
  options: (priority) => [option("--set-class", `${hexFour(priority >>> 16)}:${hexFour(priority & 0xffff)}`)],
});
