/** Sockets as the kernel lists them (include/uapi/linux/inet_diag.h): here only those that listen. */
import { ipText } from "../address/ip.ts";
import { IP_PROTOCOL } from "./ip-protocol.ts";
import { attribute, AttributeSet } from "./netlink/attributes.ts";
import { struct, u8, u16 } from "./netlink/codec.ts";
import { request, type MessageOf, type MessageSpec, type Request } from "./netlink/message.ts";
import { AF_INET, AF_INET6 } from "./socket.ts";
import { present } from "../present.ts";

/** A socket that takes what comes to its address and port. */
export interface Listener {
  readonly protocol: "tcp" | "udp";
  /** `0.0.0.0` or `::` for any. */
  readonly address: string;
  readonly port: number;
  /** Of the user who opened it, as the reader's user namespace has it. */
  readonly uid: number;
  /** `::` takes IPv4 as well unless this is set. */
  readonly onlyIpv6?: true;
  /** IP_TRANSPARENT: it may take what is addressed to others. */
  readonly transparent?: true;
  /** Index of the interface it is bound to. */
  readonly interface?: number;
}

/** An address is four words as they stand in memory; IPv4 uses the first. */
const socketId = {
  sourcePort: "be16",
  destinationPort: "be16",
  source0: "be32",
  source1: "be32",
  source2: "be32",
  source3: "be32",
  destination0: "be32",
  destination1: "be32",
  destination2: "be32",
  destination3: "be32",
  interface: "u32",
  cookie0: "u32",
  cookie1: "u32",
} as const;

export const inetDiagReq = struct("inet_diag_req_v2", {
  family: "u8",
  protocol: "u8",
  extensions: "u8",
  pad: "u8",
  states: "u32",
  ...socketId,
});

export const inetDiagMsg = struct("inet_diag_msg", {
  family: "u8",
  state: "u8",
  timer: "u8",
  retransmissions: "u8",
  ...socketId,
  expires: "u32",
  received: "u32",
  sent: "u32",
  uid: "u32",
  inode: "u32",
});

/** INET_DIAG_* */
export const socketDiagAttributes = new AttributeSet(() => ({
  onlyIpv6: attribute("INET_DIAG_SKV6ONLY", 11, u8),
  /** struct inet_diag_sockopt: two bytes of bits. */
  options: attribute("INET_DIAG_SOCKOPT", 22, u16),
}));

export const SOCK_DIAG_BY_FAMILY = 20;
const QUESTION = {
  name: "SOCK_DIAG_BY_FAMILY",
  type: SOCK_DIAG_BY_FAMILY,
  header: inetDiagReq,
  attributes: new AttributeSet(() => ({})),
} as const satisfies MessageSpec;
export const SOCKET = {
  name: "SOCK_DIAG_BY_FAMILY",
  type: SOCK_DIAG_BY_FAMILY,
  header: inetDiagMsg,
  attributes: socketDiagAttributes,
} as const satisfies MessageSpec;

/** TCP_CLOSE, which is what an UDP socket is that is connected to nobody, and TCP_LISTEN. */
const WAITING = { udp: 1 << 7, tcp: 1 << 10 } as const;
/** The bit of `transparent` in struct inet_diag_sockopt. */
const TRANSPARENT = 1 << 5;

export function listenersRequest(family: 4 | 6, protocol: Listener["protocol"]): Request {
  return request(
    QUESTION,
    `listing the ${protocol} sockets of IPv${family} that wait`,
    {
      family: family === 4 ? AF_INET : AF_INET6,
      protocol: IP_PROTOCOL[protocol],
      states: WAITING[protocol],
    },
    {},
  );
}

export function listenerOf(
  protocol: Listener["protocol"],
  { header, attributes }: MessageOf<typeof SOCKET>,
): Listener {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  const words = [header.source0, header.source1, header.source2, header.source3];
  for (const [at, word] of words.entries()) view.setUint32(at * 4, word);
  return present({
    protocol,
    address: ipText(bytes, 0, header.family === AF_INET ? 4 : 16),
    port: header.sourcePort,
    uid: header.uid,
    onlyIpv6: attributes.onlyIpv6 === 1 || undefined,
    transparent: ((attributes.options ?? 0) & TRANSPARENT) === 0 ? undefined : true,
    interface: header.interface === 0 ? undefined : header.interface,
  });
}
