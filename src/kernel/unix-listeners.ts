/** Who listens at a path, in a network namespace: Unix sockets belong to one, whatever mounts their programs see. */
import { rethrowMistake } from "../error.ts";
import { deviceText, unixListeners } from "../linux/unix-socket-diag.ts";
import { NetlinkConnection } from "./netlink/connection.ts";
import { NETLINK_SOCK_DIAG, openTransport } from "./netlink/transport.ts";
import type { NetworkNamespace } from "./namespace.ts";

export interface UnixListener {
  /** As its program named it, in its own view of the mounts. */
  readonly path: string;
  /** major:minor of the file system that the socket's file lies in. */
  readonly device: string;
}

/** Empty also where the kernel cannot tell (no module unix_diag). */
export function listenersAtPaths(namespace: NetworkNamespace): UnixListener[] {
  const { request, answer } = unixListeners();
  try {
    using connection = new NetlinkConnection(openTransport(NETLINK_SOCK_DIAG, { namespace }));
    return connection.dump(request, answer).flatMap(({ attributes: { path = "", file } }) => {
      const device = file?.device;
      return path.startsWith("/") && device !== undefined ? [{ path, device: deviceText(device) }] : [];
    });
  } catch (error) {
    rethrowMistake(error);
    return [];
  }
}
