/** The second part of the way out: from the pod's interface over the veth, and the bridge, into the node's IP stack. */
import type { Link } from "../../linux/route/link.ts";
import { hostEndOf } from "../../snapshot/host-end.ts";
import { runBridgeHook } from "./hooks.ts";
import { isWithoutArp, linkDown, neighbourAt } from "./link-state.ts";
import type { Machine } from "./machine.ts";
import { closedPort } from "./outer-bridge.ts";
import { solicit } from "./neighbour-discovery.ts";
import { isAnsweredFor, silencedBy } from "./on-link.ts";
import type { Packet } from "./packet.ts";
import type { Walk } from "./walk.ts";

/** The packet as the node's IP stack takes it in; undefined when it does not get there. */
export function crossWire(walk: Walk, sent: Machine): Machine | undefined {
  const link = walk.podLink!;
  const host = hostEndOf((index) => walk.node.view.linkAt(index), walk.pod!.view.state, link);
  if (host === undefined) {
    walk.blindSpots.push({
      place: "pod",
      text: `${link.name} (${link.kind ?? "no veth"}), whose other end is not on this node`,
      couldTranslate: true,
    });
    return undefined;
  }
  walk.hostLink = host;
  const node = walk.node.view;
  const bridge = node.linkAt(host.master);
  const nextHop = walk.gateway ?? sent.packet.destination;
  const gatewayPort = checkGateway(walk, link, host, bridge, nextHop, sent.packet.source);
  linkDown(walk, "node", host);
  walk.inLink = bridge ?? host;
  if (gatewayPort === undefined) solicit(walk, "pod", nextHop);
  const packet: Packet = {
    ...sent.packet,
    mark: 0,
    ctMark: 0,
    oif: undefined,
    iif: walk.inLink.name,
    sourceMac: link.mac,
    destinationMac: walk.inLink.mac,
    physicalIn: bridge === undefined ? undefined : host.name,
  };
  const machine = walk.machine("node", packet);
  machine.packet = { ...machine.packet, iif: host.name };
  walk.device("node", machine, "ingress", host);
  walk.step("node", "wire", `${link.name} in the pod is ${host.name} on the node`, packet);
  // The bridge's own chains see the port as the incoming interface, the IP stack behind them the bridge.
  if (bridge !== undefined && !crossBridge(walk, machine, host, bridge, gatewayPort)) return undefined;
  machine.packet = { ...machine.packet, iif: walk.inLink.name };
  return machine;
}

/** Who answers for the gateway: the node (undefined: through bridge or veth itself) or another port of the bridge. */
function checkGateway(
  walk: Walk,
  link: Link,
  host: Link,
  bridge: Link | undefined,
  nextHop: string,
  sender: string,
): OtherPort | undefined {
  const node = walk.node.view;
  const taker = bridge ?? host;
  const owned = node.fib.isLocal(nextHop);
  const behindPort = owned || bridge === undefined ? undefined : ownerOnBridge(walk, bridge, nextHop);
  const proxied = isAnsweredFor(node, taker, nextHop);
  const known = neighbourAt(walk.pod!.view, link, nextHop);
  if (known !== undefined && known.mac !== undefined && isPinned(known.state, link)) {
    const real = behindPort?.owner.mac ?? (owned || proxied ? taker.mac : undefined);
    if (real !== undefined && known.mac !== real) {
      const { mac, address } = known;
      walk.stop({ kind: "wrong-neighbour", place: "pod", link, address, mac, real });
    }
    return behindPort;
  }
  const mute = [link, taker].find((one) => isWithoutArp(one));
  if (mute !== undefined) {
    walk.stop({ kind: "link-noarp", place: mute === link ? "pod" : "node", link: mute, address: nextHop });
    return behindPort;
  }
  if (owned && known?.mac === undefined) {
    const by = silencedBy(node, taker, nextHop, sender);
    if (by !== undefined)
      walk.stop({ kind: "gateway-silent", place: "node", link: taker, gateway: nextHop, by });
  }
  if (owned || proxied || behindPort !== undefined) return behindPort;
  if (bridge !== undefined && outerPorts(walk, bridge).length > 0) return outerPorts(walk, bridge)[0];
  walk.stop({ kind: "gateway-unowned", place: "node", link: taker, gateway: nextHop });
  return undefined;
}

/** Entries that the kernel does not ask about again. Without ARP it makes such ones itself. */
function isPinned(state: string, link: Link): boolean {
  return state === "permanent" || (state === "noarp" && !isWithoutArp(link));
}

/** Another port of the pod's bridge, and the link that is behind it: inside another pod, or the port itself. */
interface OtherPort {
  readonly port: Link;
  readonly owner: Link;
}

/** The one behind which another pod has the address. */
function ownerOnBridge(walk: Walk, bridge: Link, address: string): OtherPort | undefined {
  for (const other of walk.snapshot.pods) {
    const owner = other.state?.addresses.find((one) => one.address === address);
    if (owner === undefined || other.state === undefined || other.name === walk.podState.name) continue;
    const link = other.state.links.find((one) => one.index === owner.interface);
    if (link === undefined) continue;
    const port = hostEndOf((index) => walk.node.view.linkAt(index), other.state, link);
    if (port?.master === bridge.index) return { port, owner: link };
  }
  return undefined;
}

/** Ports that lead out of this node, so that a host behind them may have an address that no host here has. */
function outerPorts(walk: Walk, bridge: Link): OtherPort[] {
  return walk.node.view.state.links
    .filter((one) => one.master === bridge.index && one.kind !== "veth")
    .map((port) => ({ port, owner: port }));
}

/** False when the frame goes on to another port instead of into the node. */
function crossBridge(
  walk: Walk,
  machine: Machine,
  host: Link,
  bridge: Link,
  other: OtherPort | undefined,
): boolean {
  const state = host.port?.state;
  if (state !== undefined && state !== "forwarding") {
    walk.stop({ kind: "port-blocked", place: "node", link: host, bridge, state });
  }
  if (!bridge.up) walk.stop({ kind: "link-down", place: "node", link: bridge });
  walk.noteBridge(machine, "prerouting", runBridgeHook(machine, walk.node.hooks, "prerouting"));
  if (other === undefined) {
    walk.noteBridge(machine, "input", runBridgeHook(machine, walk.node.hooks, "input"));
    return true;
  }
  walk.end = "bridged";
  bridgeOn(walk, machine, host, bridge, other);
  return false;
}

/** From port to port. With br_netfilter on, the IP chains see the frame, too. */
function bridgeOn(walk: Walk, machine: Machine, host: Link, bridge: Link, other: OtherPort): void {
  const { port: out } = other;
  walk.outPort = out;
  if (host.port?.isolated === true && out.port?.isolated === true) {
    walk.stop({ kind: "port-isolated", place: "node", link: host, other: out });
  }
  const calls = bridgeCallsIptables(walk, bridge, machine.packet.family);
  /** The IP chains see the bridge where the bridge's own see the port. */
  const asIp = (hook: "prerouting" | "forward" | "postrouting"): void => {
    if (!calls) return;
    const oif = hook === "prerouting" ? undefined : bridge.name;
    machine.packet = { ...machine.packet, iif: bridge.name, oif, physicalOut: out.name };
    walk.hook("node", machine, hook);
  };
  const asBridge = (hook: "forward" | "postrouting"): void => {
    machine.packet = { ...machine.packet, iif: host.name, oif: out.name };
    walk.noteBridge(machine, hook, runBridgeHook(machine, walk.node.hooks, hook));
  };
  asIp("prerouting");
  asBridge("forward");
  asIp("forward");
  asBridge("postrouting");
  asIp("postrouting");
  linkDown(walk, "node", out);
  closedPort(walk, bridge, out);
  walk.step("node", "bridge", `stays on ${bridge.name}, leaves by port ${out.name}`, machine.packet);
}

/** net.bridge.bridge-nf-call-iptables, or the bridge's own switch. */
export function bridgeCallsIptables(walk: Walk, bridge: Link, family: 4 | 6): boolean {
  const name = family === 4 ? "iptables" : "ip6tables";
  if (walk.node.view.sysctl(`net.bridge.bridge-nf-call-${name}`) === 1) return true;
  return (family === 4 ? bridge.bridge?.callIptables : bridge.bridge?.callIp6tables) === true;
}
