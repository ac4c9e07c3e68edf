/** The xtables matches that are understood, by name. */
import type { XtDescription } from "./describe.ts";
import { addrtype } from "./matches/addrtype.ts";
import { comment } from "./matches/comment.ts";
import { cluster, connbytes, connlabel, helper, length, nfacct, quota } from "./matches/connection.ts";
import { connlimit } from "./matches/connlimit.ts";
import { conntrack, state } from "./matches/conntrack.ts";
import { cpu, devgroup, mac, physdev, pkttype, realm, rpfilter } from "./matches/devices.ts";
import { icmp, icmp6 } from "./matches/icmp.ts";
import { dscp, ecn, frag, hl, tos, ttl } from "./matches/ip-header.ts";
import { iprange } from "./matches/iprange.ts";
import { ah, esp, policy } from "./matches/ipsec.ts";
import { connmark, mark } from "./matches/mark.ts";
import { bpf, recent, string, time, u32 } from "./matches/programs.ts";
import { hashlimit, limit, statistic } from "./matches/rates.ts";
import { set } from "./matches/set.ts";
import { cgroup, owner, socket } from "./matches/sockets.ts";
import { dccp, multiport, sctp, tcp, tcpmss, udp } from "./matches/transport.ts";

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
