/** The xtables targets that are understood, by name. */
import type { XtDescription } from "../describe.ts";
import { AUDIT, LOG, NFLOG, NFQUEUE, SET, TEE, TPROXY, TRACE } from "./elsewhere.ts";
import { CHECKSUM, DSCP, HL, SYNPROXY, TCPMSS, TCPOPTSTRIP, TOS, TTL } from "./headers.ts";
import { CLASSIFY, CONNMARK, CONNSECMARK, MARK, SECMARK } from "./marks.ts";
import { DNAT, MASQUERADE, NETMAP, REDIRECT, SNAT } from "./nat.ts";
import { REJECT } from "./reject.ts";
import { CT, NOTRACK } from "./tracking.ts";

const ALL: readonly XtDescription<unknown>[] = [
  AUDIT,
  CHECKSUM,
  CLASSIFY,
  CONNMARK,
  CONNSECMARK,
  CT,
  DNAT,
  DSCP,
  HL,
  LOG,
  MARK,
  MASQUERADE,
  NETMAP,
  NFLOG,
  NFQUEUE,
  NOTRACK,
  REDIRECT,
  REJECT,
  SECMARK,
  SET,
  SNAT,
  SYNPROXY,
  TCPMSS,
  TCPOPTSTRIP,
  TEE,
  TOS,
  TPROXY,
  TRACE,
  TTL,
];

export const TARGETS: ReadonlyMap<string, XtDescription<unknown>> = new Map(
  ALL.map((one) => [one.name, one]),
);
