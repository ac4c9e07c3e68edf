/** What xtables targets do with a packet, by their values. */
import type { XtDescription } from "../../../linux/xtables/describe.ts";
import {
  AUDIT,
  LOG,
  NFLOG,
  NFQUEUE,
  SET,
  TEE,
  TPROXY,
  TRACE,
} from "../../../linux/xtables/targets/elsewhere.ts";
import {
  CHECKSUM,
  DSCP,
  HL,
  SYNPROXY,
  TCPMSS,
  TCPOPTSTRIP,
  TOS,
  TTL,
  type HopLimitTarget,
} from "../../../linux/xtables/targets/headers.ts";
import { CLASSIFY, CONNMARK, CONNSECMARK, MARK, SECMARK } from "../../../linux/xtables/targets/marks.ts";
import {
  DNAT,
  MASQUERADE,
  NETMAP,
  REDIRECT,
  SNAT,
  type NatTarget,
} from "../../../linux/xtables/targets/nat.ts";
import { REJECT } from "../../../linux/xtables/targets/reject.ts";
import { CT, NOTRACK } from "../../../linux/xtables/targets/tracking.ts";
import type { FlowTimeouts } from "../flow.ts";
import { PROTOCOL_NUMBER } from "../packet.ts";
import { takeByProxy } from "../listeners.ts";
import { CONTINUE, type Machine, type NatRange, type StepResult } from "../machine.ts";
import { bind, proxySyn, untrack } from "../statements.ts";
import { target, type Judge } from "./judge.ts";
import { present } from "../../../present.ts";
import { isUnspecifiedAddress } from "../../../address/special-purpose.ts";

type Parts = Pick<NatRange, "manip" | "masquerade" | "redirect" | "netmap">;

function translate(
  name: string,
  parts: Parts,
): Judge<Pick<NatTarget, "addresses"> & Partial<NatTarget>, StepResult> {
  return (machine, { addresses, ports }) => {
    const range = addresses === undefined || addresses.first === addresses.last ? "" : `-${addresses.last}`;
    const to = addresses === undefined ? "" : ` to ${addresses.first}${range}`;
    return bind(machine, {
      ...parts,
      ...(addresses === undefined ? {} : addresses),
      ...(ports === undefined ? {} : { firstPort: ports.first, lastPort: ports.last }),
      text: `${name}${to}`,
    });
  };
}

const SOURCE = { manip: "source", masquerade: false, redirect: false, netmap: false } as const;
const DESTINATION = { ...SOURCE, manip: "destination" } as const;

const pass = (): StepResult => CONTINUE;

function changeTtl(machine: Machine, { change, by }: HopLimitTarget): StepResult {
  const { ttl } = machine.packet;
  const now = change === "set" ? by : change === "inc" ? Math.min(ttl + by, 255) : Math.max(ttl - by, 0);
  if (now !== ttl) machine.ttlBy = machine.here?.();
  machine.packet = { ...machine.packet, ttl: now };
  return CONTINUE;
}

/** A policy that is not known says nothing of how long. */
function timeoutsOf({ view, packet, here }: Machine, name: string): FlowTimeouts | undefined {
  const protocol = PROTOCOL_NUMBER[packet.protocol];
  const policy = view.state.timeoutPolicies?.find(
    (one) => one.name === name && one.family === packet.family && one.protocol === protocol,
  );
  if (policy === undefined) return undefined;
  return { by: here?.(), what: `nfct timeout ${name}`, seconds: policy.timeouts };
}

const ALL = [
  target(MASQUERADE, translate("masquerade", { ...SOURCE, masquerade: true })),
  target(SNAT, translate("snat", SOURCE)),
  target(DNAT, translate("dnat", DESTINATION)),
  target(REDIRECT, translate("redirect", { ...DESTINATION, redirect: true })),
  target(NETMAP, (machine, value) => {
    const isSource = machine.hook === "postrouting" || machine.hook === "input";
    return translate("netmap", { ...(isSource ? SOURCE : DESTINATION), netmap: true })(machine, value);
  }),

  target(MARK, (machine, { mark, mask }) => {
    if (machine.unknownMark === undefined) machine.setMark((machine.packet.mark & ~mask) ^ mark);
    return CONTINUE;
  }),
  target(CONNMARK, (machine, { mode, mark, connectionMask, packetMask, shift }) => {
    const { flow, packet } = machine;
    if (flow === undefined) return CONTINUE;
    // connmark_tg_shift of xt_connmark.c
    const shifted = (value: number): number =>
      shift === undefined ? value : shift.right ? value >>> shift.bits : value << shift.bits;
    if (mode === "set") flow.mark = shifted((flow.mark & ~connectionMask) ^ mark) >>> 0;
    else if (mode === "save") {
      flow.mark = ((flow.mark & ~connectionMask) ^ shifted(packet.mark & packetMask)) >>> 0;
      flow.unknownMark = machine.unknownMark;
    } else {
      machine.setMark((packet.mark & ~packetMask) ^ shifted(flow.mark & connectionMask));
      machine.unknownMark = flow.unknownMark;
    }
    return CONTINUE;
  }),

  target(REJECT, (_machine, answer) => ({ verdict: "drop", action: `REJECT --reject-with ${answer}` })),
  target(NFQUEUE, (_machine, { first }) => ({
    verdict: "queue",
    action: `NFQUEUE to the program behind queue ${first}`,
  })),

  /** xt_ct_target: what has been looked at stays where it is. */
  target(CT, (machine, { notrack, zone, zoneByMark, timeout }) => {
    if (notrack) untrack(machine);
    else if (!machine.isTrackingDecided) {
      if (timeout !== "") machine.timeouts = timeoutsOf(machine, timeout);
      const id = zoneByMark ? machine.packet.mark & 0xffff : zone.id;
      machine.zonedBy = machine.here?.();
      machine.zone = { ...zone, id };
    }
    return CONTINUE;
  }),
  target(NOTRACK, (machine) => {
    untrack(machine);
    return CONTINUE;
  }),

  /** tproxy_tg4: without a socket that may take it the packet is dropped. */
  target(TPROXY, (machine, { address, port, mark, mask }) => {
    const isAny = isUnspecifiedAddress(address);
    const to = present({ address: isAny ? undefined : address, port: port === 0 ? undefined : port });
    if (!takeByProxy(machine, to)) {
      return { verdict: "drop", action: `TPROXY to port ${port}, where no transparent proxy listens` };
    }
    machine.setMark((machine.packet.mark & ~mask) ^ mark);
    return { verdict: "accept", action: `TPROXY to port ${port}` };
  }),

  target(SET, (machine, { mapsMark }) => {
    if (mapsMark) machine.unknownMark = { why: "a mark that an ipset holds" };
    return CONTINUE;
  }),
  target(SYNPROXY, proxySyn),

  target(TTL, changeTtl),
  target(HL, changeTtl),
  target(DSCP, (machine, dscp) => {
    machine.packet = { ...machine.packet, dscp };
    return CONTINUE;
  }),
  target(TOS, (machine, { value, mask }) => {
    const now = ((machine.packet.dscp << 2) & ~mask) ^ value;
    machine.packet = { ...machine.packet, dscp: (now >> 2) & 0x3f };
    return CONTINUE;
  }),

  target(LOG, pass),
  target(NFLOG, pass),
  target(TEE, pass),
  target(TRACE, pass),
  target(AUDIT, pass),
  target(TCPMSS, pass),
  target(TCPOPTSTRIP, pass),
  target(CHECKSUM, pass),
  target(CLASSIFY, pass),
  target(SECMARK, pass),
  target(CONNSECMARK, pass),
];

const JUDGES: ReadonlyMap<XtDescription<unknown>, Judge<unknown, StepResult>> = new Map(ALL);

export function judgeOf(description: XtDescription<unknown>): Judge<unknown, StepResult> | undefined {
  return JUDGES.get(description);
}
