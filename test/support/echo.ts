/** Connections that last: somebody who repeats what he hears, and somebody who says something now and then. */
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { afterThisTest } from "./teardown.ts";

const ECHO_PORT = 8090;

export function echoServer(namespace: NetworkNamespace): void {
  const server = namespace.run(() =>
    Bun.listen({
      hostname: "0.0.0.0",
      port: ECHO_PORT,
      socket: { data: (socket, data) => void socket.write(data) },
    }),
  );
  afterThisTest(() => server.stop(true));
}

/** Sends each line it is given over one connection, and prints what comes back, or that nothing did. */
const CLIENT = `exec 3<>/dev/tcp/$0/${ECHO_PORT}
while read line; do
  { echo "$line" >&3; } 2>/dev/null && read -t "$1" answer <&3 2>/dev/null && echo "$answer" || echo lost
done`;

/** @param timeoutS so long an answer is waited for; a reset is known at once */
export function connection(namespace: NetworkNamespace, address: string, timeoutS = 2) {
  const child = namespace.run(() =>
    Bun.spawn(["bash", "-c", CLIENT, address, String(timeoutS)], {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "ignore",
    }),
  );
  afterThisTest(() => child.kill());
  const reader = child.stdout.getReader();
  return {
    /** The echo; `lost` when none came. */
    async says(line: string): Promise<string> {
      void child.stdin.write(`${line}\n`);
      await child.stdin.flush();
      const { value } = await reader.read();
      // A reset of the connection ends the shell, too.
      return new TextDecoder().decode(value).trim() || "lost";
    },
  };
}
