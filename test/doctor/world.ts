/** A node with a bridge, two pods and an internet, for the doctor's tests: made before a test, gone behind it. */
import { enableForwarding } from "../../src/forwarding/forwarding.ts";
import { InetSocket } from "../../src/kernel/inet-socket.ts";
import * as libc from "../../src/kernel/libc.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import * as lab from "../../src/lab/plan.ts";
import { buildWorld, removeNamespaces, World as LabWorld } from "../../src/lab/world.ts";
import { POLLIN } from "../../src/linux/socket.ts";
import { masqueradeIntent } from "../../src/nat/intent.ts";
import { NftablesNat } from "../../src/nat/backends/nftables/nftables.ts";
import { findPod } from "../../src/pods/find.ts";
import { buildNodeWorld } from "../support/node-world.ts";
import { afterThisTest } from "../support/teardown.ts";
import { run } from "../support/witness.ts";
import { takeSnapshot } from "../../src/snapshot/collect.ts";
import type { Snapshot } from "../../src/snapshot/snapshot.ts";
import { hostCidr } from "../../src/address/ip.ts";

/**
 *   ns-blue  net1 10.0.0.1 ─ veth-blue ─┐                     ┌─ router 203.0.113.1
 *                                       ├ lan0 [node] up0 ────┤  HTTP   198.51.100.80
 *   ns-green net1 10.0.0.2 ─ veth-green ┘ 10.0.0.254          └─ DNS    198.51.100.53
 *                                         203.0.113.5
 */
export const PLAN = {
  node: {
    namespace: "node",
    bridge: "lan0",
    uplink: "up0",
    gatewayIpv4: "10.0.0.254",
    gatewayIpv6: "fd00:10::254",
    uplinkIpv4: "203.0.113.5",
    uplinkIpv6: "2001:db8:113::5",
  },
  pods: {
    blue: { namespace: "ns-blue", veth: "veth-blue", ipv4: "10.0.0.1", ipv6: "fd00:10::1" },
    green: { namespace: "ns-green", veth: "veth-green", ipv4: "10.0.0.2", ipv6: "fd00:10::2" },
  },
  podInterface: "net1",
  podNetworkIpv4: "10.0.0.0/24",
  podNetworkIpv6: "fd00:10::/64",
  internet: {
    namespace: "internet",
    /** The router's end of the veth pair whose other end is the node's uplink. */
    link: "to-node",
    routerIpv4: "203.0.113.1",
    routerIpv6: "2001:db8:113::1",
    httpIpv4: "198.51.100.80",
    httpIpv6: "2001:db8:198::80",
    dnsIpv4: "198.51.100.53",
    dnsIpv6: "2001:db8:198::53",
  },
  otherUplinkIpv4: "203.0.113.77",
} as const;

export interface World {
  readonly blue: NetworkNamespace;
  readonly green: NetworkNamespace;
  readonly node: NetworkNamespace;
  readonly internet: NetworkNamespace;
}

/** Blue and green have a way out to the internet. */
export function healthyWorld(): World {
  const { node, internet, pods } = PLAN;
  const built = buildNodeWorld({
    names: { outside: internet.namespace, node: node.namespace },
    uplink: {
      name: node.uplink,
      outsideName: internet.link,
      addresses: [`${node.uplinkIpv4}/24`, `${node.uplinkIpv6}/64`],
      outsideAddresses: [`${internet.routerIpv4}/24`, `${internet.routerIpv6}/64`],
      gateways: [internet.routerIpv4, internet.routerIpv6],
    },
    servers: [internet.httpIpv4, internet.dnsIpv4, internet.httpIpv6, internet.dnsIpv6].map(hostCidr),
    pods: [pods.blue, pods.green].map(({ namespace, veth, ipv4, ipv6 }) => ({
      name: namespace,
      interface: PLAN.podInterface,
      hostInterface: veth,
      wiring: { bridge: node.bridge },
      addresses: [`${ipv4}/24`, `${ipv6}/64`],
      gateways: [`${node.gatewayIpv4}/24`, `${node.gatewayIpv6}/64`],
    })),
  });
  const [blue, green] = built.pods as [NetworkNamespace, NetworkNamespace];
  giveWayOut(built.node);
  return { blue, green, node: built.node, internet: built.outside };
}

/** The lab's own, for tests of what the lab breaks in it. */
export function labWorld(): LabWorld {
  afterThisTest(() => removeNamespaces(lab.LAB_NAMESPACES));
  buildWorld();
  const open = new LabWorld();
  afterThisTest(() => open[Symbol.dispose]());
  giveWayOut(open.node);
  return open;
}

function giveWayOut(node: NetworkNamespace): void {
  enableForwarding(node, { ipv4: true, ipv6: true });
  using nat = new NftablesNat({ namespace: node });
  nat.apply(masqueradeIntent("tests", [PLAN.podNetworkIpv4, PLAN.podNetworkIpv6]));
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
