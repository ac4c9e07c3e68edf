/** The internet of the trace's tests: answers TCP on 80 and 443 and UDP on 53 and 9999, both families, until killed. */
for (const port of [80, 443]) {
  Bun.serve({ port, hostname: "::", fetch: () => new Response("hello") });
}
// One socket an address: a datagram that leaves an unbound one has another source than was asked.
export const SOCKETS = [
  [53, "198.51.100.80"],
  [53, "2001:db8:198::80"],
  [9999, "198.51.100.80"],
  [7777, "::"],
] as const;
for (const [port, hostname] of SOCKETS) {
  await Bun.udpSocket({
    port,
    hostname,
    socket: {
      // Asked by somebody who has gone meanwhile.
      error() {},
      data(socket, bytes, fromPort, from) {
        socket.send(bytes, fromPort, from);
      },
    },
  });
}
console.log("ready");
