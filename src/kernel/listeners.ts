/**
 * Who listens in a namespace, asked over sock_diag: one dump a family and protocol, and only the sockets that wait. Most
 * pods have sockets of one kind, or none: the kernel counts them, and of what there is none nothing is asked.
 */
import { listenerOf, listenersRequest, SOCKET, type Listener } from "../linux/socket-diag.ts";
import { NetlinkError } from "../linux/netlink/netlink-error.ts";
import { readTextIfThere } from "./file.ts";
import { NetlinkConnection } from "./netlink/connection.ts";
import type { NetlinkTransport } from "./netlink/transport.ts";

/** Where the sockets of a family are counted, and how they are called there. */
const COUNTED = [
  { family: 4, file: "sockstat", tcp: "TCP", udp: "UDP" },
  { family: 6, file: "sockstat6", tcp: "TCP6", udp: "UDP6" },
] as const;

/**
 * Every TCP socket that listens and every UDP socket that is connected to nobody, of the namespace that the thread is in;
 * undefined without sock_diag.
 * @param open a socket of NETLINK_SOCK_DIAG, when one is needed
 */
export function readListeners(open: () => NetlinkTransport): Listener[] | undefined {
  const counted = COUNTED.map((one) => ({
    ...one,
    text: readTextIfThere(`/proc/thread-self/net/${one.file}`),
  }));
  const asked = (["tcp", "udp"] as const).flatMap((protocol) =>
    counted
      .filter((one) => socketsInUse(one.text, one[protocol]) !== 0)
      .map(({ family }) => ({ protocol, family })),
  );
  if (asked.length === 0) return [];
  const connection = new NetlinkConnection(open());
  try {
    return asked.flatMap(({ protocol, family }) =>
      connection
        .dump(listenersRequest(family, protocol), SOCKET)
        .map((message) => listenerOf(protocol, message)),
    );
  } catch (error) {
    // The modules tcp_diag and udp_diag are not there.
    if (error instanceof NetlinkError && error.code === "ENOENT") return undefined;
    throw error;
  }
}

/** Lines of /proc/net/sockstat, `TCP: inuse 3 orphan 0 …`; undefined where it does not say. */
function socketsInUse(text: string | undefined, kind: string): number | undefined {
  const line = text?.split("\n").find((one) => one.startsWith(`${kind}: inuse `));
  return line === undefined ? undefined : Number(line.split(" ")[2]);
}
