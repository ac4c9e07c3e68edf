/** Bits of the flags byte of a TCP header (RFC 9293 3.1, linux/tcp.h), the lowest first. */
export const TCP_FLAG = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16, urg: 32, ece: 64, cwr: 128 } as const;
