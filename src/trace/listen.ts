/** Finds a flow that is there already: the first packet that the pod sends to the destination by itself. */
import { WayoutError } from "../error.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { PacketTap } from "../kernel/packet-socket.ts";
import type { Packet } from "../kernel/packet/packet.ts";
import type { FlowEnds } from "./evidence.ts";
import type { RoutedPacket } from "./survey.ts";

/** @throws WayoutError nothing-flows when none came in time */
export function awaitFlow(namespace: NetworkNamespace, wanted: RoutedPacket, timeoutMs: number): FlowEnds {
  const { family, destination, protocol } = wanted;
  using tap = PacketTap.open(namespace, {
    filter: { destination, protocol: protocol === "icmp" && family === 6 ? "icmpv6" : protocol },
  });
  const deadline = performance.now() + timeoutMs;
  for (let left = timeoutMs; left > 0; left = deadline - performance.now()) {
    for (const { packet, direction } of tap.read(left)) {
      const flow = direction === "out" ? flowOf(packet, wanted) : undefined;
      if (flow !== undefined) return flow;
    }
  }
  const port = wanted.destinationPort === undefined ? "" : ` port ${wanted.destinationPort}`;
  throw new WayoutError({
    code: "nothing-flows",
    kind: "broken",
    doing: `following what flows to ${destination}${port}`,
    said: `the pod sent no ${protocol} packet there within ${timeoutMs} ms`,
    todo: "Leave --listen out to send one.",
  });
}

function flowOf(packet: Packet, wanted: RoutedPacket): FlowEnds | undefined {
  const { ip, tcp, udp, icmp } = packet;
  if (ip === undefined) return undefined;
  const base = {
    family: wanted.family,
    protocol: wanted.protocol,
    source: ip.source,
    destination: ip.destination,
  };
  if (icmp !== undefined) {
    const isRequest = icmp.type === 8 || icmp.type === 128;
    return isRequest && icmp.identifier !== undefined ? { ...base, sourcePort: icmp.identifier } : undefined;
  }
  const ports = tcp ?? udp;
  if (ports === undefined) return undefined;
  if (wanted.destinationPort !== undefined && ports.destinationPort !== wanted.destinationPort)
    return undefined;
  return { ...base, sourcePort: ports.sourcePort, destinationPort: ports.destinationPort };
}
