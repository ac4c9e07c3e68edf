/** The xtables matches that are understood, by name. */
import type { XtDescription } from "../describe.ts";
import { addrtype } from "./addrtype.ts";
import { comment } from "./comment.ts";
import { cluster, connbytes, connlabel, helper, length, nfacct, quota } from "./connection.ts";
import { connlimit } from "./connlimit.ts";
import { conntrack, state } from "./conntrack.ts";
import { cpu, devgroup, mac, physdev, pkttype, realm, rpfilter } from "./devices.ts";
import { icmp, icmp6 } from "./icmp.ts";
import { dscp, ecn, frag, hl, tos, ttl } from "./ip-header.ts";
import { iprange } from "./iprange.ts";
import { ah, esp, policy } from "./policy.ts";
import { connmark, mark } from "./mark.ts";
import { bpf, recent, string, time, u32 } from "./programs.ts";
import { hashlimit, limit, statistic } from "./rates.ts";
import { set } from "./set.ts";
import { cgroup, owner, socket } from "./sockets.ts";
import { dccp, multiport, sctp, tcp, tcpmss, udp } from "./transport.ts";

const ALL: readonly XtDescription<unknown>[] = [
  addrtype,
  ah,
  bpf,
  cgroup,
  cluster,
  comment,
  connbytes,
  connlabel,
  connlimit,
  connmark,
  conntrack,
  cpu,
  dccp,
  devgroup,
  dscp,
  ecn,
  esp,
  frag,
  hashlimit,
  helper,
  hl,
  icmp,
  icmp6,
  iprange,
  length,
  limit,
  mac,
  mark,
  multiport,
  nfacct,
  owner,
  physdev,
  pkttype,
  policy,
  quota,
  realm,
  recent,
  rpfilter,
  sctp,
  set,
  socket,
  state,
  statistic,
  string,
  tcp,
  tcpmss,
  time,
  tos,
  ttl,
  u32,
  udp,
];

export const MATCHES: ReadonlyMap<string, XtDescription<unknown>> = new Map(
  ALL.map((one) => [one.name, one]),
);
