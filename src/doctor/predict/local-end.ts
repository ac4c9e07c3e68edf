/** A packet that ends in a namespace: for which reason, and whether a socket waits for it there. */
import type { Link } from "../../linux/route/link.ts";
import type { Route } from "../../linux/route/route.ts";
import type { PolicyRule } from "../../linux/route/rule.ts";
import type { Listener } from "../../linux/socket-diag.ts";
import type { Decision } from "./decision.ts";
import { RT_TABLE } from "../../linux/route/constants.ts";
import type { RouteResult } from "./fib.ts";
import { listenerAt } from "./listeners.ts";
import type { Machine } from "./machine.ts";
import type { Side } from "./side.ts";
import type { NodeView } from "./view.ts";

/** Why a packet is for the namespace itself. */
export type LocalReason =
  /** The address is that link's, and it is the one that was asked for. */
  | { readonly kind: "address"; readonly link: Link }
  /** REDIRECT or DNAT changed the destination. */
  | { readonly kind: "translated"; readonly by: Decision }
  /** TPROXY gave it to a socket. */
  | { readonly kind: "proxy"; readonly by: Decision; readonly rule: PolicyRule | undefined }
  /** A `local` route takes what is nobody's address; the rule that set the mark by which it was found, if one did. */
  | {
      readonly kind: "route";
      readonly route: Route | undefined;
      readonly rule: PolicyRule | undefined;
      readonly markedBy: Decision | undefined;
    };

export interface LocalEnd {
  readonly place: Side;
  readonly address: string;
  /** 0 for protocols without ports. */
  readonly port: number;
  readonly why: LocalReason;
  /** The TPROXY rule whose socket was lost between a bridge and the IP stack. */
  readonly forgottenBy?: Decision;
  /** The socket that gets it; `unknown` when the sockets were not read, or the protocol has none. */
  readonly listener: Listener | "none" | "unknown";
}

type Way = Extract<RouteResult, { kind: "route" }>;

/** @param translated the rule that changed the destination */
export function localEnd(
  view: NodeView,
  place: Side,
  machine: Machine,
  way: Way,
  translated: Decision | undefined,
): LocalEnd {
  const { destination: address, destinationPort: port, protocol, iif } = machine.packet;
  const why = reasonOf(view, machine, way, translated);
  const listener = listenerAt(view, { protocol, address, port, iif });
  // A transparent proxy's socket has another address and port than the packet; TPROXY has looked for it. A broadcast is
  // for others, too.
  const isHidden = why.kind === "proxy" || way.type === "broadcast" || way.type === "multicast";
  return {
    place,
    address,
    port,
    why,
    ...(machine.forgottenBy === undefined ? {} : { forgottenBy: machine.forgottenBy }),
    listener: isHidden && listener === "none" ? "unknown" : listener,
  };
}

function reasonOf(view: NodeView, machine: Machine, way: Way, translated: Decision | undefined): LocalReason {
  if (machine.takenBy !== undefined) return { kind: "proxy", by: machine.takenBy, rule: way.rule };
  if (translated !== undefined) return { kind: "translated", by: translated };
  const { destination } = machine.packet;
  const own = view.state.addresses.find((one) => one.address === destination);
  const link = view.linkAt(own?.interface);
  const isOwnRoute = way.table === undefined || way.table === RT_TABLE.local;
  if (link !== undefined && isOwnRoute) return { kind: "address", link };
  return { kind: "route", route: way.route, rule: way.rule, markedBy: machine.markedBy };
}
