/** The internet of the trace's tests: answers TCP on 80 and 443 and UDP on 53 and 9999, both families, until killed. */
for (const port of [80, 443]) {
  Bun.serve({ port, hostname: "::", fetch: () => new Response("hello") });
}
for (const port of [53, 9999]) {
  await Bun.udpSocket({
    port,
    hostname: "::",
    socket: {
      data(socket, bytes, fromPort, from) {
        socket.send(bytes, fromPort, from);
      },
    },
  });
}
console.log("ready");

export {};
