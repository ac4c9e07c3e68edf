/** The lab's world with a way out, for the doctor's tests: made before a test, gone behind it. */
import { enableForwarding } from "../../src/forwarding/forwarding.ts";
import { InetSocket } from "../../src/kernel/inet-socket.ts";
import * as libc from "../../src/kernel/libc.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { PLAN } from "../../src/lab/plan.ts";
import { buildWorld, removeNamespaces, World } from "../../src/lab/world.ts";
import { LAB_NAMESPACES } from "../../src/lab/plan.ts";
import { masqueradeIntent } from "../../src/nat/intent.ts";
import { NftablesNat } from "../../src/nat/backends/nftables/nftables.ts";
import { findPod } from "../../src/pods/find.ts";
import { afterThisTest } from "../support/teardown.ts";
import { run } from "../support/witness.ts";
import { takeSnapshot } from "../../src/snapshot/collect.ts";
import type { Snapshot } from "../../src/snapshot/snapshot.ts";

/** Blue and green have a way out to the internet. */
export function healthyWorld(): World {
  afterThisTest(() => removeNamespaces(LAB_NAMESPACES));
  buildWorld();
  const open = new World();
  afterThisTest(() => open[Symbol.dispose]());
  enableForwarding(open.node, { ipv4: true, ipv6: true });
  using nat = new NftablesNat({ namespace: open.node });
  nat.apply(masqueradeIntent("lab", [PLAN.podNetworkIpv4, PLAN.podNetworkIpv6]));
  return open;
}

/** What the doctor of ns-blue gets to see. */
export function snapshotOf(
  world: World,
  destinations: readonly string[] = [PLAN.internet.httpIpv4],
): Snapshot {
  return takeSnapshot({
    node: world.node,
    pods: [findPod(PLAN.pods.blue.namespace)],
    others: [findPod(PLAN.pods.green.namespace)],
    destinations,
    deferred: true,
  });
}

/** A web server on every address of the internet's namespace, and one that repeats what it is asked on UDP 53. */
export function serveInternet(world: World): Promise<AsyncDisposable> {
  return serving(
    world.internet,
    80,
    `await Bun.udpSocket({ hostname: "${PLAN.internet.dnsIpv4}", port: 53, socket: { data(socket, bytes, port, address) {
      // To a source without a way back nothing can be sent: that is one of the faults.
      try { socket.send(bytes, port, address); } catch {}
    }, error() {} } });`,
  );
}

/** A web server in a pod. Ends with the test. */
export function servePod(pod: NetworkNamespace, port: number): Promise<AsyncDisposable> {
  return serving(pod, port, "");
}

export async function serving(
  namespace: NetworkNamespace,
  port: number,
  besides: string,
): Promise<AsyncDisposable> {
  const program = `
    Bun.serve({ hostname: "::", port: ${port}, async fetch(request, server) {
      const { address } = server.requestIP(request);
      await request.arrayBuffer();
      return new Response(address);
    } });
    ${besides}
    console.log("ready");`;
  const child = namespace.run(() =>
    Bun.spawn([process.execPath, "-e", program], { stdout: "pipe", stderr: "inherit" }),
  );
  for await (const chunk of child.stdout) if (Buffer.from(chunk).toString().includes("ready")) break;
  return {
    async [Symbol.asyncDispose]() {
      child.kill();
      await child.exited;
    },
  };
}

/** The source that the server saw; undefined when blue got no answer in time. */
export function fetchFrom(
  world: World,
  family: 4 | 6 = 4,
  seconds = 5,
  host = family === 4 ? PLAN.internet.httpIpv4 : `[${PLAN.internet.httpIpv6}]`,
): string | undefined {
  const ran = run(world.blue, ["curl", "-s", "-m", String(seconds), `http://${host}/`]);
  return ran.exitCode === 0 ? ran.stdout.replace(/^::ffff:/, "") : undefined;
}

/** Whether ns-blue gets an answer over UDP. @param sourcePort of the question; any when absent */
export function askFrom(world: World, sourcePort = 0, seconds = 5): boolean {
  const POLLIN = 1;
  using socket = InetSocket.open(world.blue, "udp", 4);
  socket.bindPort(sourcePort);
  socket.connect({ address: PLAN.internet.dnsIpv4, port: 53 });
  const question = Buffer.from("anybody there?");
  socket.send(question);
  const deadline = performance.now() + seconds * 1000;
  for (let left = seconds * 1000; left > 0; left = deadline - performance.now()) {
    if (libc.poll([{ fd: socket.fd, events: POLLIN, revents: 0 }], left) === 0) return false;
    // An answer to what the flow carried before may come first.
    if (question.equals(socket.receive() ?? Buffer.alloc(0))) return true;
  }
  return false;
}

/** Whether a transfer of many full packets from ns-blue comes to its end. */
export function uploadFrom(world: World, seconds = 5): boolean {
  const arguments_ = [
    "-s",
    "-m",
    String(seconds),
    "--data-binary",
    "@-",
    `http://${PLAN.internet.httpIpv4}/`,
  ];
  return run(world.blue, ["curl", ...arguments_], "x".repeat(200_000)).exitCode === 0;
}
