/** Who waits for a packet that ends in a namespace: its sockets, by address, port and interface. */
import { ipFamily } from "../../address/ip.ts";
import type { Listener } from "../../linux/socket-diag.ts";
import type { Machine } from "./machine.ts";
import type { Protocol } from "./packet.ts";
import type { NodeView } from "./view.ts";
import { isUnspecifiedAddress } from "../../address/special-purpose.ts";

export interface Endpoint {
  readonly protocol: Protocol;
  readonly address: string;
  readonly port: number;
  /** Name of the interface that the packet came in by. */
  readonly iif: string | undefined;
}

/** The socket that gets the packet; `unknown` where the sockets were not read or have no ports. */
export function listenerAt(view: NodeView, at: Endpoint): Listener | "none" | "unknown" {
  const { listeners } = view.state;
  if (listeners === undefined || (at.protocol !== "tcp" && at.protocol !== "udp")) return "unknown";
  const candidates = listeners.filter((one) => accepts(view, one, at));
  // The one that says more about what it wants wins (compute_score).
  return candidates.find((one) => one.address === at.address) ?? candidates[0] ?? "none";
}

function accepts(view: NodeView, listener: Listener, at: Endpoint): boolean {
  if (listener.protocol !== at.protocol || listener.port !== at.port) return false;
  if (listener.interface !== undefined && listener.interface !== view.link(at.iif)?.index) return false;
  if (listener.address === at.address) return true;
  if (!isAny(listener)) return false;
  const family = ipFamily(listener.address);
  return family === ipFamily(at.address) || (family === 6 && listener.onlyIpv6 !== true);
}

/** Whether a socket takes what comes to any address. */
export function isAny({ address }: Listener): boolean {
  return isUnspecifiedAddress(address);
}

/**
 * What TPROXY does: a socket that may take foreign addresses and listens at the rule's address and port gets the packet.
 * @param to what the rule names; the packet's own where it names nothing
 */
export function takeByProxy(
  machine: Machine,
  to: { readonly address?: string; readonly port?: number },
): boolean {
  const { packet, view } = machine;
  if (packet.protocol !== "tcp" && packet.protocol !== "udp") return false;
  const own = view.state.addresses.find(
    (one) => one.interface === view.link(packet.iif)?.index && one.family === packet.family,
  );
  const found = listenerAt(view, {
    protocol: packet.protocol,
    address: to.address ?? own?.address ?? packet.destination,
    port: to.port ?? packet.destinationPort,
    iif: packet.iif,
  });
  const takes =
    found === "unknown"
      ? machine.ask("whether a transparent proxy listens", true)
      : found !== "none" && found.transparent === true;
  if (takes) machine.takenBy = machine.here?.();
  return takes;
}
