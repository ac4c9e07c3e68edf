/** The way back: from the node's out-interface to the pod's socket. */
import { runBridgeHook } from "./hooks.ts";
import { failedNeighbour, routeOnNode } from "./out.ts";
import { neighbourAt } from "./link-state.ts";
import type { Machine } from "./machine.ts";
import { answerTo, type Packet } from "./packet.ts";
import type { Walk } from "./walk.ts";

/** Follows the answer to a packet that left. */
export function walkBack(walk: Walk, left: Packet): void {
  const { outLink, nodeFlow, inLink } = walk;
  // What a pod sends to itself is judged where it turns round: its answer takes the same way.
  if (inLink === undefined || walk.end === "bridged" || walk.hairpin) return;
  walk.direction = "back";
  const answer: Packet = { ...answerTo(left), iif: outLink?.name };
  if (nodeFlow !== undefined) nodeFlow.status |= SEEN_REPLY;
  const machine = walk.machine("node", answer, nodeFlow);
  const arrived =
    outLink === undefined || walk.end === "node"
      ? answerFromNode(walk, machine)
      : answerFromOutside(walk, machine);
  if (arrived) enterPod(walk, machine);
}

/** IPS_SEEN_REPLY, IPS_CONFIRMED. */
const SEEN_REPLY = (1 << 1) | (1 << 3);

export function answerFromNode(walk: Walk, machine: Machine): boolean {
  machine.packet = { ...machine.packet, iif: undefined, oif: walk.inLink!.name };
  walk.hook("node", machine, "output");
  walk.hook("node", machine, "postrouting");
  return true;
}

export function answerFromOutside(walk: Walk, machine: Machine): boolean {
  const out = walk.outLink!;
  walk.device("node", machine, "ingress", out);
  walk.hook("node", machine, "prerouting");
  const way = routeOnNode(walk, machine, out);
  if (way === undefined) return false;
  const expected = walk.inLink!;
  const { hostLink, gateway } = walk;
  if (way.link.kind === "bridge" && hostLink?.index === expected.index && gateway !== undefined) {
    // The pod's network is this bridge's, and the cable is not plugged into it.
    walk.stop({ kind: "not-enslaved", place: "node", link: hostLink, gateway, bridge: way.link });
    return false;
  }
  if (way.type !== "unicast" || way.link.index !== expected.index) {
    walk.stop({
      kind: "astray",
      place: "node",
      link: way.link,
      expected,
      address: machine.packet.destination,
    });
    return false;
  }
  machine.nextHop = way.gateway;
  machine.packet = { ...machine.packet, oif: way.link.name };
  walk.hook("node", machine, "forward");
  walk.hook("node", machine, "postrouting");
  return true;
}

export function enterPod(walk: Walk, machine: Machine): void {
  const { inLink, hostLink, podLink } = walk;
  if (inLink === undefined || hostLink === undefined || podLink === undefined) return;
  const address = machine.packet.destination;
  const known = neighbourAt(walk.node.view, inLink, address);
  if (known?.mac !== undefined && (known.state === "permanent" || known.state === "noarp")) {
    if (podLink.mac !== "" && known.mac !== podLink.mac) {
      walk.stop({
        kind: "wrong-neighbour",
        place: "node",
        link: inLink,
        address,
        mac: known.mac,
        real: podLink.mac,
      });
    }
  } else if (known?.state === "failed") failedNeighbour(walk, inLink, address);
  if (inLink.index !== hostLink.index) {
    machine.packet = {
      ...machine.packet,
      sourceMac: inLink.mac,
      destinationMac: podLink.mac,
      iif: undefined,
      oif: hostLink.name,
      physicalOut: hostLink.name,
    };
    walk.noteBridge(machine, "output", runBridgeHook(machine, walk.node.hooks, "output"));
    walk.noteBridge(machine, "postrouting", runBridgeHook(machine, walk.node.hooks, "postrouting"));
  }
  walk.device("node", machine, "egress", hostLink);
  deliver(walk, machine.packet);
}

function deliver(walk: Walk, packet: Packet): void {
  const link = walk.podLink!;
  const inside = walk.machine(
    "pod",
    { ...packet, mark: 0, iif: link.name, oif: undefined, physicalIn: undefined, physicalOut: undefined },
    walk.podFlow,
  );
  walk.device("pod", inside, "ingress", link);
  walk.hook("pod", inside, "prerouting");
  walk.hook("pod", inside, "input");
  walk.step("pod", "input", "the answer reaches the socket", inside.packet);
}
