/** The article's world, made of real kernel objects. */
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { spawnIn } from "../kernel/spawn.ts";
import { createNamedNamespace, deleteNamedNamespace } from "../kernel/named-namespace.ts";
import { NetworkNamespace } from "../kernel/namespace.ts";
import type { ProcessIdentity } from "../kernel/process.ts";
import { connectPod, ensureBridge } from "../network/network.ts";
import { selfCommand } from "../self.ts";
import { startLasting } from "./lasting.ts";
import { LAB_PROCESSES } from "./processes.ts";
import { LAB_NAMESPACES, PLAN, type PodPlan } from "./plan.ts";
import { present } from "../present.ts";

/** The four namespaces, open. */
export class World implements Disposable {
  readonly blue = NetworkNamespace.named(PLAN.pods.blue.namespace);
  readonly green = NetworkNamespace.named(PLAN.pods.green.namespace);
  readonly node = NetworkNamespace.named(PLAN.node.namespace);
  readonly internet = NetworkNamespace.named(PLAN.internet.namespace);

  [Symbol.dispose](): void {
    for (const namespace of [this.blue, this.green, this.node, this.internet]) namespace.close();
  }
}

/** Makes the four namespaces and the veth pairs between them. No pod has a way out yet. Names must be free. */
export function buildWorld(): void {
  for (const name of LAB_NAMESPACES) createNamedNamespace(name);
  using world = new World();
  using node = Rtnetlink.open(world.node);
  using internet = Rtnetlink.open(world.internet);
  for (const connection of [node, internet]) connection.setLink("lo", { up: true });
  createUplink(node, internet, world.internet);
  configureInternet(internet);
  configureNode(node);
  const bridge = ensureBridge(node, {
    name: PLAN.node.bridge,
    gateways: [
      `${PLAN.node.gatewayIpv4}/${PLAN.podPrefixIpv4}`,
      `${PLAN.node.gatewayIpv6}/${PLAN.podPrefixIpv6}`,
    ],
  });
  for (const pod of [PLAN.pods.blue, PLAN.pods.green]) {
    connectLabPod(node, world[pod.role], pod, bridge.link.index);
  }
  for (const namespace of [world.blue, world.green, world.node, world.internet]) awaitLinks(namespace);
}

/**
 * Waits until every link of a namespace works. The kernel tells a link that its other end is up in the background
 * (linkwatch), up to a second later; until then what is sent on it is lost without a word.
 */
export function awaitLinks(namespace: NetworkNamespace): void {
  const TIMEOUT_MS = 15_000;
  const deadline = performance.now() + TIMEOUT_MS;
  using route = Rtnetlink.open(namespace);
  const isPending = (): boolean =>
    route.links({ statistics: false }).some(({ name, operState }) => name !== "lo" && operState !== "up");
  while (isPending() && performance.now() < deadline) Bun.sleepSync(2);
}

/** The veth pair between the node's eth0 and the router. */
function createUplink(node: Rtnetlink, internet: Rtnetlink, internetNamespace: NetworkNamespace): void {
  node.createVeth({
    name: PLAN.node.uplink,
    peer: { name: PLAN.internet.link, namespaceFd: internetNamespace.fd },
  });
  node.setLink(PLAN.node.uplink, { up: true });
  internet.setLink(PLAN.internet.link, { up: true });
}

/** The node's own address and its default route: to the router. */
function configureNode(node: Rtnetlink): void {
  giveUplinkAddress(node, PLAN.node.uplinkIpv4);
  const uplink = node.link(PLAN.node.uplink)!.index;
  node.addAddress({
    interface: uplink,
    address: PLAN.node.uplinkIpv6,
    prefixLength: PLAN.uplinkPrefixIpv6,
    nodad: true,
  });
  node.replaceRoute({ destination: "::/0", gateway: PLAN.internet.routerIpv6, interface: uplink });
}

/** Gives eth0 an IPv4 address and the default route that comes with it, as DHCP does. */
export function giveUplinkAddress(node: Rtnetlink, address: string): void {
  const uplink = node.link(PLAN.node.uplink)!.index;
  node.addAddress({ interface: uplink, address, prefixLength: PLAN.uplinkPrefixIpv4 });
  node.replaceRoute({ destination: "0.0.0.0/0", gateway: PLAN.internet.routerIpv4, interface: uplink });
}

/** Takes eth0's IPv4 address away; its routes go with it. */
export function takeUplinkAddress(node: Rtnetlink, address: string): void {
  const uplink = node.link(PLAN.node.uplink)!.index;
  node.deleteAddress({ interface: uplink, address, prefixLength: PLAN.uplinkPrefixIpv4 });
}

/** The router's addresses and the servers'. There is no route to the pods' network, as in the real one. */
function configureInternet(internet: Rtnetlink): void {
  const link = internet.link(PLAN.internet.link)!.index;
  const loopback = internet.link("lo")!.index;
  const give = (index: number, address: string, length: number): void =>
    internet.addAddress({ interface: index, address, prefixLength: length, nodad: true });
  give(link, PLAN.internet.routerIpv4, PLAN.uplinkPrefixIpv4);
  give(link, PLAN.internet.routerIpv6, PLAN.uplinkPrefixIpv6);
  for (const address of [PLAN.internet.httpIpv4, PLAN.internet.dnsIpv4]) give(loopback, address, 32);
  for (const address of [PLAN.internet.httpIpv6, PLAN.internet.dnsIpv6]) give(loopback, address, 128);
}

/** The veth pair of one pod, its addresses and its routes. */
export function connectLabPod(
  node: Rtnetlink,
  namespace: NetworkNamespace,
  pod: PodPlan,
  bridge: number,
): void {
  connectPod(node, namespace, {
    network: "lab",
    container: pod.namespace,
    interfaceName: PLAN.podInterface,
    hostName: pod.veth,
    bridge,
    addresses: [`${pod.ipv4}/${PLAN.podPrefixIpv4}`, `${pod.ipv6}/${PLAN.podPrefixIpv6}`],
    routes: [
      { destination: "0.0.0.0/0", gateway: PLAN.node.gatewayIpv4 },
      { destination: "::/0", gateway: PLAN.node.gatewayIpv6 },
    ],
  });
}

/**
 * Starts the servers of the internet, and waits until they listen. They end with this process, however it ends; unless
 * `remember` is given: then they stay for good, but only once it has been told who they are and has returned.
 */
export function startInternet(remember?: (servers: ProcessIdentity) => void): void {
  using namespace = NetworkNamespace.named(PLAN.internet.namespace);
  startLasting({
    doing: "starting the servers of the lab's internet",
    spawn: (place, argument) =>
      spawnIn(
        { ...place, enter: [namespace.fd] },
        [...selfCommand(), LAB_PROCESSES.internet, argument],
        process.env,
      ),
    ...present({ remember }),
  });
}

/** Takes the names away; links, addresses and rules go with the namespaces. Missing ones are fine. */
export function removeNamespaces(names: readonly string[]): void {
  for (const name of names) deleteNamedNamespace(name);
}
