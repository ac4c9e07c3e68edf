/** The way out, or the way to another network of pods, is a bridge: its frames pass the bridge's own chains and a port. */
import type { Link } from "../../linux/route/link.ts";
import type { Snapshot } from "../../snapshot/snapshot.ts";
import { runBridgeHook } from "./hooks.ts";
import { neighbourAt } from "./link-state.ts";
import type { Machine } from "./machine.ts";
import type { Walk } from "./walk.ts";

/** Indexes, as pods have them, of what may be the other ends of their interfaces. */
const ends = new WeakMap<Snapshot, ReadonlySet<number>>();

function endsOfPods(snapshot: Snapshot): ReadonlySet<number> {
  let known = ends.get(snapshot);
  if (known === undefined) {
    const links = snapshot.pods.flatMap((pod) => pod.state?.links ?? []);
    known = new Set(links.flatMap((link) => (link.kind === "veth" ? (link.link ?? []) : [])));
    ends.set(snapshot, known);
  }
  return known;
}

/**
 * The port by which the bridge gives frames to an address and gets them from there: as its table has it, or the only one
 * that is no pod's. Undefined where neither says it.
 */
export function portToward(walk: Walk, bridge: Link, address: string): Link | undefined {
  if (bridge.kind !== "bridge") return undefined;
  const { view } = walk.node;
  const ports = view.state.links.filter((one) => one.master === bridge.index);
  const mac = neighbourAt(view, bridge, address)?.mac;
  const entry = view.state.forwarding?.find(
    (one) => one.mac === mac && ports.some((port) => port.index === one.interface),
  );
  if (mac !== undefined && entry !== undefined) return view.linkAt(entry.interface);
  if (ports.length === 1) return ports[0];
  const others = ports.filter((port) => !endsOfPods(walk.snapshot).has(port.index));
  return others.length === 1 ? others[0] : undefined;
}

/** br_dev_xmit, __br_forward: both hooks know the port. */
export function leaveByPort(walk: Walk, machine: Machine, bridge: Link, port: Link): void {
  closedPort(walk, bridge, port);
  const before = machine.packet;
  machine.packet = { ...before, sourceMac: bridge.mac, iif: undefined, oif: port.name };
  for (const hook of ["output", "postrouting"] as const)
    walk.noteBridge(machine, hook, runBridgeHook(machine, walk.node.hooks, hook), port);
  walk.device("node", machine, "egress", port);
  machine.packet = { ...machine.packet, iif: before.iif, oif: before.oif, sourceMac: before.sourceMac };
}

/** br_handle_frame, br_pass_frame_up. */
export function arriveByPort(walk: Walk, machine: Machine, bridge: Link, port: Link): void {
  const before = machine.packet;
  machine.packet = { ...before, destinationMac: bridge.mac, iif: port.name };
  walk.device("node", machine, "ingress", port);
  for (const hook of ["prerouting", "input"] as const)
    walk.noteBridge(machine, hook, runBridgeHook(machine, walk.node.hooks, hook), port);
  machine.packet = { ...machine.packet, iif: before.iif, destinationMac: before.destinationMac };
}

/** A port without carrier is disabled by that: its link tells it. */
export function closedPort(walk: Walk, bridge: Link, port: Link): void {
  const state = port.port?.state;
  if (state === "disabled" && (!port.up || port.carrier === false)) return;
  if (state !== undefined && state !== "forwarding")
    walk.stop({ kind: "port-blocked", place: "node", link: port, bridge, state });
}
