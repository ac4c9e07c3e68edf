/** Who listens in a namespace: what the kernel counts decides what is asked at all. */
import { expect, test } from "bun:test";
import { closeFile } from "../../src/kernel/file.ts";
import * as libc from "../../src/kernel/libc.ts";
import { readListeners } from "../../src/kernel/listeners.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import {
  NETLINK_SOCK_DIAG,
  openTransport,
  type NetlinkTransport,
} from "../../src/kernel/netlink/transport.ts";
import { AF_INET, AF_INET6, SOCK_DGRAM } from "../../src/linux/socket.ts";
import type { Listener } from "../../src/linux/socket-diag.ts";
import { freshNamespace } from "../support/world.ts";

/** What is read, and how many questions it took. */
function read(namespace: NetworkNamespace): { readonly found: readonly Listener[]; readonly asked: number } {
  let asked = 0;
  const opened: NetlinkTransport[] = [];
  const found = namespace.run(() =>
    readListeners(() => {
      const transport = openTransport(NETLINK_SOCK_DIAG);
      opened.push(transport);
      const send = transport.send.bind(transport);
      transport.send = (datagram) => {
        asked++;
        send(datagram);
      };
      return transport;
    }),
  );
  for (const transport of opened) transport.close();
  return { found: found!, asked };
}

function udpSocket(namespace: NetworkNamespace, family: number, port: number): number {
  const fd = namespace.run(() => libc.socket(family, SOCK_DGRAM, 0));
  const address = new Uint8Array(family === AF_INET ? 16 : 28);
  new DataView(address.buffer).setUint16(0, family, true);
  new DataView(address.buffer).setUint16(2, port);
  libc.bind(fd, address);
  return fd;
}

test("nothing is asked where there is no socket, and only of the kinds that there are", () => {
  const namespace = freshNamespace();
  expect(read(namespace)).toEqual({ found: [], asked: 0 });
  const server = namespace.run(() =>
    Bun.listen({ hostname: "0.0.0.0", port: 8080, socket: { data: () => undefined } }),
  );
  const tcp = { protocol: "tcp", address: "0.0.0.0", port: 8080, uid: 0 } as const;
  expect(read(namespace)).toEqual({ found: [tcp], asked: 1 });
  const long = udpSocket(namespace, AF_INET6, 53);
  const both = read(namespace);
  expect(both.asked).toBe(2);
  expect(both.found).toEqual([tcp, { protocol: "udp", address: "::", port: 53, uid: 0 }]);
  const short = udpSocket(namespace, AF_INET, 54);
  expect(read(namespace).found).toContainEqual({ protocol: "udp", address: "0.0.0.0", port: 54, uid: 0 });
  server.stop(true);
  for (const fd of [long, short]) closeFile(fd);
  expect(read(namespace).found).toEqual([]);
});
