/**
 * How long the kernel remembers a flow that is silent, in seconds, where no setting and no rule says otherwise
 * (net/netfilter/nf_conntrack_proto_tcp.c, nf_conntrack_proto_udp.c).
 */
export const TCP_TIMEOUTS_S = {
  syn_sent: 120,
  syn_recv: 60,
  established: 432_000,
  fin_wait: 120,
  close_wait: 60,
  last_ack: 30,
  time_wait: 120,
  close: 10,
} as const;

export const UDP_TIMEOUTS_S = { unreplied: 30, replied: 120 } as const;
