/** Targets of xtables modules. The structures are those of include/uapi/linux/netfilter/xt_*.h and nf_nat.h. */
import { CONTINUE, type Machine, type NatRange, type StepResult } from "./machine.ts";
import { decide } from "./comparisons.ts";
import { bind } from "./statements.ts";
import { infoAddress, type Info } from "./xtables-matches.ts";

export type Target = (machine: Machine, info: Info, revision: number) => StepResult;

/** Undefined for a module we do not know. */
export function findTarget(name: string): Target | undefined {
  return Object.hasOwn(TARGETS, name) ? TARGETS[name] : undefined;
}

/** NF_NAT_RANGE_MAP_IPS and NF_NAT_RANGE_PROTO_SPECIFIED. */
const MAP_IPS = 1;
const PROTO_SPECIFIED = 2;

type Range = Pick<NatRange, "first" | "last" | "firstPort" | "lastPort">;

/**
 * struct nf_nat_ipv4_multi_range_compat (rangesize 0, flags 4, min_ip 8, max_ip 12, min 16, max 18), or
 * struct nf_nat_range (flags 0, min_addr 4, max_addr 20, min_proto 36, max_proto 38).
 */
function readRange(info: Info, multi: boolean, family: 4 | 6): Range {
  const at = multi
    ? { flags: 4, first: 8, last: 12, firstPort: 16, lastPort: 18 }
    : { flags: 0, first: 4, last: 20, firstPort: 36, lastPort: 38 };
  const flags = info.u32(at.flags);
  return {
    ...((flags & MAP_IPS) === 0
      ? {}
      : { first: infoAddress(info, at.first, family), last: infoAddress(info, at.last, family) }),
    ...((flags & PROTO_SPECIFIED) === 0
      ? {}
      : { firstPort: info.be16(at.firstPort), lastPort: info.be16(at.lastPort) }),
  };
}

function translate(
  name: string,
  parts: Pick<NatRange, "manip" | "masquerade" | "redirect" | "netmap">,
): Target {
  return (machine, info, revision) => {
    const { family } = machine.packet;
    // IPv4 revision 0 of these targets, and all of MASQUERADE, REDIRECT and NETMAP, hold the older structure.
    const multi = family === 4 && revision === 0;
    const range = readRange(info, multi, family);
    const address =
      range.first === undefined
        ? ""
        : ` to ${range.first}${range.last === range.first ? "" : `-${range.last}`}`;
    return bind(machine, { ...parts, ...range, text: `${name}${address}` });
  };
}

const pass: Target = () => CONTINUE;

const TARGETS: Readonly<Record<string, Target>> = {
  MASQUERADE: translate("masquerade", {
    manip: "source",
    masquerade: true,
    redirect: false,
    netmap: false,
  }),
  SNAT: translate("snat", { manip: "source", masquerade: false, redirect: false, netmap: false }),
  DNAT: translate("dnat", { manip: "destination", masquerade: false, redirect: false, netmap: false }),
  REDIRECT: translate("redirect", {
    manip: "destination",
    masquerade: false,
    redirect: true,
    netmap: false,
  }),
  NETMAP(machine, info, revision) {
    const manip = machine.hook === "postrouting" || machine.hook === "input" ? "source" : "destination";
    return translate("netmap", { manip, masquerade: false, redirect: false, netmap: true })(
      machine,
      info,
      revision,
    );
  },

  /** struct xt_mark_tginfo2: mark 0, mask 4. */
  MARK(machine, info) {
    if (machine.unknownMark === undefined) {
      const mark = ((machine.packet.mark & ~info.u32(4)) ^ info.u32(0)) >>> 0;
      machine.packet = { ...machine.packet, mark };
    }
    return CONTINUE;
  },

  /** struct xt_connmark_tginfo1: ctmark 0, ctmask 4, nfmask 8, mode 12 (0 set, 1 save, 2 restore); tginfo2: mode 14. */
  CONNMARK(machine, info, revision) {
    const { flow, packet } = machine;
    if (flow === undefined) return CONTINUE;
    // Revision 2 has shift_dir and shift_bits in front of the mode.
    if (revision > 1 && info.u8(13) !== 0) return decide(machine, "a shifted CONNMARK");
    const [ctmark, ctmask, nfmask] = [info.u32(0), info.u32(4), info.u32(8)];
    switch (info.u8(revision > 1 ? 14 : 12)) {
      case 0:
        flow.mark = ((flow.mark & ~ctmask) ^ ctmark) >>> 0;
        break;
      case 1:
        flow.mark = ((flow.mark & ~ctmask) ^ (packet.mark & nfmask)) >>> 0;
        flow.unknownMark = machine.unknownMark;
        break;
      default:
        machine.packet = { ...packet, mark: ((packet.mark & ~nfmask) ^ (flow.mark & ctmask)) >>> 0 };
        machine.unknownMark = flow.unknownMark;
    }
    return CONTINUE;
  },

  REJECT: (_machine, info) => ({ verdict: "drop", action: `REJECT (--reject-with number ${info.u32(0)})` }),
  DROP: () => ({ verdict: "drop" }),

  /** struct xt_ct_target_info: flags 0; XT_CT_NOTRACK is bit 0. */
  CT(machine, info) {
    if ((info.u16(0) & 1) !== 0) machine.packet = { ...machine.packet, state: "untracked" };
    return CONTINUE;
  },
  NOTRACK(machine) {
    machine.packet = { ...machine.packet, state: "untracked" };
    return CONTINUE;
  },

  NFQUEUE: (_machine, info) => ({
    verdict: "queue",
    action: `NFQUEUE to the program behind queue ${info.u16(0)}`,
  }),

  LOG: pass,
  NFLOG: pass,
  TCPMSS: pass,
  CHECKSUM: pass,
  TRACE: pass,
  CLASSIFY: pass,
  SET: pass,
  DSCP: pass,
  TOS: pass,
  TTL: pass,
  HL: pass,
  TEE: pass,
  AUDIT: pass,
  SECMARK: pass,
  CONNSECMARK: pass,
};
