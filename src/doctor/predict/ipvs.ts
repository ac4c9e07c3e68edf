/**
 * IPVS, as kube-proxy uses it: a packet for a virtual service is taken at the input hook and sent to one of its servers,
 * as if the node itself did (ip_vs_in_hook, ip_vs_nat_xmit).
 */
import { endText } from "../../address/ip.ts";
import { HOOK_PRIORITY } from "../../linux/netfilter.ts";
import type { VirtualService } from "../../kernel/procfs.ts";
import { noRoute, type Way } from "./in-pod.ts";
import type { Machine } from "./machine.ts";
import { transportOf, type Packet } from "./packet.ts";
import type { NodeView } from "./view.ts";
import type { Walk } from "./walk.ts";
import { present } from "../../present.ts";

/** NF_IP_PRI_NAT_SRC - 1: in front of what would translate the source of a packet for the node. */
const IPVS_PRIORITY = HOOK_PRIORITY.srcnat - 1;

/**
 * The way to the server; undefined where no virtual service takes the packet.
 * @returns `refused` when none of its servers gets connections, or there is no way to the server
 */
export function balance(walk: Walk, machine: Machine): Way | "refused" | undefined {
  const { view } = walk.node;
  const service = virtualServiceFor(view, machine.packet);
  if (service === undefined) return undefined;
  walk.hook("node", machine, "input", IPVS_PRIORITY);
  walk.end = "node";
  const server = chosen(machine, service);
  if (server === undefined) {
    // Where the servers are not known one by one, all that can be said is that there are some.
    if (service.destinations === 0) walk.stop({ kind: "no-server", place: "node", service });
    return "refused";
  }
  const { address } = server;
  // A server of a marked service keeps the port that was asked for.
  const port = server.port === 0 ? machine.packet.destinationPort : server.port;
  walk.balancedBy = service;
  // Without its own "conntrack" it takes what it sends on out of connection tracking, and nobody translates it.
  if (view.sysctl("net.ipv4.vs.conntrack") === 0) {
    machine.flow = undefined;
    machine.packet = { ...machine.packet, state: "untracked" };
  }
  machine.flow?.bind({ manip: "destination", address, port }, "destination");
  machine.packet = { ...machine.packet, destination: address, destinationPort: port, iif: undefined };
  const { mark } = machine.packet;
  const way = walk.route("node", {
    destination: address,
    ...transportOf(machine.packet),
    ...present({ mark: mark === 0 ? undefined : mark }),
  });
  walk.step("node", "input", `IPVS sends it to ${endText(address, port)}`, machine.packet);
  if (way.kind === "route") return way;
  noRoute(walk, "node", address, way);
  return "refused";
}

/** ip_vs_service_find: by the packet's mark, then by its address and port. */
function virtualServiceFor({ state }: NodeView, packet: Packet): VirtualService | undefined {
  const { virtualServices = [] } = state;
  return (
    virtualServices.find(({ mark }) => mark !== undefined && mark === packet.mark) ??
    virtualServices.find(
      (one) =>
        one.mark === undefined &&
        one.protocol === packet.protocol &&
        one.address === packet.destination &&
        one.port === packet.destinationPort,
    )
  );
}

/** `tcp 10.96.0.10:443`, `fwmark 1`. */
export function virtualServiceText({ protocol, address, port, mark }: VirtualService): string {
  return mark === undefined ? `${protocol} ${endText(address, port)}` : `fwmark ${mark}`;
}

/** One of the servers that get connections, by chance: the schedulers' own reasons are not read. */
function chosen(
  machine: Machine,
  service: VirtualService,
): NonNullable<VirtualService["servers"]>[number] | undefined {
  const able = (service.servers ?? []).filter(({ weight }) => weight > 0);
  machine.here = undefined;
  return able.find(
    (one, at) =>
      at === able.length - 1 ||
      machine.ask(
        `IPVS’ choice of ${endText(one.address, one.port)} for ${virtualServiceText(service)}`,
        at === 0,
        1 / (able.length - at),
      ),
  );
}
