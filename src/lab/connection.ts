/** A TCP connection out of a namespace that stays open until its descriptor is closed. */
import { AF_INET, SOCK_STREAM, SOL_SOCKET } from "../linux/socket.ts";
import { closeSync } from "node:fs";
import { ipBytes } from "../address/ip.ts";
import * as libc from "../kernel/libc.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";

const SO_SNDTIMEO = 21;
/** connect(2) keeps to SO_SNDTIMEO; without it the kernel tries for two minutes. The lab answers at once or never. */
const TIMEOUT_S = 15;

/** @throws SystemError ECONNREFUSED, ETIMEDOUT, ENETUNREACH … */
export function openConnection(
  namespace: NetworkNamespace,
  address: string,
  port: number,
): { readonly fd: number; readonly localPort: number } {
  const fd = namespace.run(() => libc.socket(AF_INET, SOCK_STREAM, 0));
  try {
    const to = new Uint8Array(16);
    const view = new DataView(to.buffer);
    view.setUint16(0, AF_INET, true);
    view.setUint16(2, port);
    to.set(ipBytes(address), 4);
    const limit = BigInt64Array.from([BigInt(TIMEOUT_S), 0n]);
    libc.setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, new Uint8Array(limit.buffer));
    if (!libc.connect(fd, to)) throw new Error(`no connection to ${address}:${port} within ${TIMEOUT_S} s`);
    const own = libc.getsockname(fd);
    return { fd, localPort: new DataView(own.buffer, own.byteOffset).getUint16(2) };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}
