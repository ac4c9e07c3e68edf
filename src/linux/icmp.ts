/** Types and codes of ICMP and ICMPv6 messages, by nft's names for them (linux/icmp.h, linux/icmpv6.h, RFC 4861). */

export const ICMP_TYPES = {
  "echo-reply": 0,
  "destination-unreachable": 3,
  "source-quench": 4,
  redirect: 5,
  "echo-request": 8,
  "router-advertisement": 9,
  "router-solicitation": 10,
  "time-exceeded": 11,
  "parameter-problem": 12,
  "timestamp-request": 13,
  "timestamp-reply": 14,
  "info-request": 15,
  "info-reply": 16,
  "address-mask-request": 17,
  "address-mask-reply": 18,
} as const;

/** Of destination-unreachable. */
export const ICMP_CODES = {
  "net-unreachable": 0,
  "host-unreachable": 1,
  "prot-unreachable": 2,
  "port-unreachable": 3,
  "frag-needed": 4,
  "net-prohibited": 9,
  "host-prohibited": 10,
  "admin-prohibited": 13,
} as const;

export const ICMPV6_TYPES = {
  "destination-unreachable": 1,
  "packet-too-big": 2,
  "time-exceeded": 3,
  "parameter-problem": 4,
  "echo-request": 128,
  "echo-reply": 129,
  "mld-listener-query": 130,
  "mld-listener-report": 131,
  "mld-listener-done": 132,
  "nd-router-solicit": 133,
  "nd-router-advert": 134,
  "nd-neighbor-solicit": 135,
  "nd-neighbor-advert": 136,
  "nd-redirect": 137,
  "router-renumbering": 138,
  "ind-neighbor-solicit": 141,
  "ind-neighbor-advert": 142,
  "mld2-listener-report": 143,
} as const;

/** Of destination-unreachable. */
export const ICMPV6_CODES = {
  "no-route": 0,
  "admin-prohibited": 1,
  "addr-unreachable": 3,
  "port-unreachable": 4,
  "policy-fail": 5,
  "reject-route": 6,
} as const;

/** Messages that quote the packet which they are about (RFC 1122 3.2.2, RFC 4443 2.1). */
export const ICMP_ERRORS: Readonly<Record<4 | 6, readonly number[]>> = {
  4: [
    ICMP_TYPES["destination-unreachable"],
    ICMP_TYPES["source-quench"],
    ICMP_TYPES.redirect,
    ICMP_TYPES["time-exceeded"],
    ICMP_TYPES["parameter-problem"],
  ],
  6: [
    ICMPV6_TYPES["destination-unreachable"],
    ICMPV6_TYPES["packet-too-big"],
    ICMPV6_TYPES["time-exceeded"],
    ICMPV6_TYPES["parameter-problem"],
  ],
};

/** A ping, by family, and its answer. */
export const ECHO_REQUEST = { 4: ICMP_TYPES["echo-request"], 6: ICMPV6_TYPES["echo-request"] } as const;
export const ECHO_REPLY = { 4: ICMP_TYPES["echo-reply"], 6: ICMPV6_TYPES["echo-reply"] } as const;

/** What a router says of a packet that is too large for its next link (RFC 1191, RFC 8201). */
export const TOO_LARGE = {
  4: { type: ICMP_TYPES["destination-unreachable"], code: ICMP_CODES["frag-needed"] },
  6: { type: ICMPV6_TYPES["packet-too-big"], code: 0 },
} as const;
