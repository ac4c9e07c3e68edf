/** Who listens in a namespace, asked over sock_diag: one dump a family and protocol, and only the sockets that wait. */
import { listenerOf, listenersRequest, SOCKET, type Listener } from "../linux/socket-diag.ts";
import { NetlinkError } from "../linux/netlink/netlink-error.ts";
import { NetlinkConnection } from "./netlink/connection.ts";
import type { NetlinkTransport } from "./netlink/transport.ts";

/** Every TCP socket that listens and every UDP socket that is connected to nobody; undefined without sock_diag. */
export function readListeners(transport: NetlinkTransport): Listener[] | undefined {
  const connection = new NetlinkConnection(transport);
  try {
    return (["tcp", "udp"] as const).flatMap((protocol) =>
      ([4, 6] as const).flatMap((family) =>
        connection
          .dump(listenersRequest(family, protocol), SOCKET)
          .map((message) => listenerOf(protocol, message)),
      ),
    );
  } catch (error) {
    // The modules tcp_diag and udp_diag are not there.
    if (error instanceof NetlinkError && error.code === "ENOENT") return undefined;
    throw error;
  }
}
