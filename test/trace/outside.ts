/** The internet of the trace's tests: answers TCP on 80 and 443 and UDP on 53 and 9999, both families, until killed. */
for (const port of [80, 443]) {
  Bun.serve({ port, hostname: "::", fetch: () => new Response("hello") });
}
// Takes connections and never says a word.
Bun.listen({ port: 8080, hostname: "::", socket: { data() {} } });
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
        socket.send(port === 53 ? answerOf(bytes) : bytes, fromPort, from);
      },
    },
  });
}
console.log("ready");

/** Every name is 198.51.100.80, and in IPv6 nothing (RFC 1035 4.1). */
function answerOf(query: Uint8Array): Uint8Array {
  const isA = query[query.length - 3] === 1;
  const answer = isA ? [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 198, 51, 100, 80] : [];
  const bytes = Uint8Array.of(...query, ...answer);
  bytes.set([0x81, 0x80, 0, 1, 0, isA ? 1 : 0], 2);
  return bytes;
}
