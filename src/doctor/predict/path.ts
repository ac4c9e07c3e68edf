/** What a prediction says: where a packet of a pod goes, who decides about it, where it ends, and the way back. */
import type { VirtualService } from "../../kernel/procfs.ts";
import type { Link } from "../../linux/route/link.ts";
import type { Route } from "../../linux/route/route.ts";
import type { PolicyRule } from "../../linux/route/rule.ts";
import type { IpsecPolicy } from "../../linux/xfrm.ts";
import type { Decision } from "./decision.ts";
import type { FlowTimeouts } from "./flow.ts";
import type { HookStop } from "./hooks.ts";
import type { LocalEnd } from "./local-end.ts";
import type { Silence } from "./on-link.ts";
import type { Direction, Side } from "./side.ts";
import type { GivenMark, Sender } from "./machine.ts";
import type { SourceChoice } from "./source-address.ts";
import type { PortRange } from "../../linux/ip-protocol.ts";
import type { Protocol, Tuple } from "./packet.ts";

/** Where a packet shall go. */
export interface Target {
  readonly address: string;
  readonly protocol: Protocol;
  /** 0 for ICMP. */
  readonly port: number;
  /** The port it is sent from; any of the usual range when absent. */
  readonly sourcePort?: number;
  /** The process that sends; root when absent, as a person has to be who enters a pod to ask. */
  readonly sender?: Sender;
}

/** One thing that happened on the way. */
export interface PathStep {
  readonly place: Side;
  readonly direction: Direction;
  /** `route`, `output`, `wire`, `bridge`, `prerouting`, `forward`, `postrouting`, `input`, `neighbour`. */
  readonly at: string;
  readonly text: string;
  /** The packet as it left this step. */
  readonly tuple: Tuple;
  /** Its source port is one of these; `tuple` names the first. */
  readonly sourcePorts?: PortRange;
  /** The rule that decided, where one did something worth telling. */
  readonly by?: Decision;
}

interface At {
  readonly place: Side;
  readonly direction: Direction;
}

/** Why the packet goes no further. The names are those of the kernel's reasons, not of the cure. */
export type Stop = At &
  (
    | { readonly kind: "no-interface" }
    | { readonly kind: "no-address"; readonly link: Link; readonly family: 4 | 6 }
    | {
        readonly kind: "no-route";
        /** errno name: ENETUNREACH, EHOSTUNREACH, EACCES, EINVAL. */
        readonly error: string;
        readonly destination: string;
        readonly route: Route | undefined;
        readonly rule: PolicyRule | undefined;
      }
    | { readonly kind: "link-down"; readonly link: Link }
    | { readonly kind: "no-carrier"; readonly link: Link }
    | { readonly kind: "port-blocked"; readonly link: Link; readonly bridge: Link; readonly state: string }
    | { readonly kind: "port-isolated"; readonly link: Link; readonly other: Link }
    | {
        readonly kind: "not-enslaved";
        readonly link: Link;
        readonly gateway: string;
        readonly bridge: Link;
      }
    | { readonly kind: "gateway-unowned"; readonly gateway: string; readonly link: Link }
    | {
        /** The node has the address, and does not say so on this link. */
        readonly kind: "gateway-silent";
        readonly gateway: string;
        readonly link: Link;
        readonly by: Silence;
      }
    | {
        /** A rule changed the destination to the node's loopback, which nothing that comes in may be for. */
        readonly kind: "loopback-destination";
        readonly link: Link;
        readonly destination: string;
        readonly by: Decision | undefined;
      }
    | {
        readonly kind: "wrong-neighbour";
        readonly link: Link;
        readonly address: string;
        readonly mac: string;
        readonly real: string;
      }
    | {
        /** ARP is off on the link: frames for the address get the link's own MAC address, or nobody answers for it. */
        readonly kind: "link-noarp";
        readonly link: Link;
        readonly address: string;
      }
    | {
        readonly kind: "neighbour-failed";
        readonly link: Link;
        readonly address: string;
        readonly state: string;
      }
    | {
        readonly kind: "filtered";
        readonly stop: HookStop;
        readonly hook: string;
        readonly family: string;
        /** It is not the packet itself that is dropped, but the question for a neighbour's MAC address or its answer. */
        readonly about?: "neighbour-discovery";
        /** Where that question or answer is sent or taken in. */
        readonly link?: Link;
        /** The port of a bridge that the frame passes. */
        readonly port?: Link;
      }
    | {
        /** One hop is left, or none: nobody further on forwards it. */
        readonly kind: "ttl-exceeded";
        readonly link: Link;
        readonly ttl: number;
        /** The rule that set it. */
        readonly by: Decision | undefined;
      }
    | {
        /**
         * `refused`: an IPsec policy blocks it. `no-association`: one wants it encrypted, and nothing is negotiated to
         * encrypt it with. `unprotected`: it came in as it is, and a policy takes it only encrypted.
         */
        readonly kind: "ipsec";
        readonly link: Link;
        readonly policy: IpsecPolicy;
        readonly why: "refused" | "no-association" | "unprotected";
      }
    | {
        /** None of the virtual service's servers gets new connections. */
        readonly kind: "no-server";
        readonly service: VirtualService;
      }
    | {
        /** TPROXY gave the packet to a socket, and no route (`ip rule fwmark`, `local default`) brings it there. */
        readonly kind: "proxy-without-route";
        readonly by: Decision;
        readonly link: Link;
      }
    | {
        readonly kind: "forwarding-off";
        readonly family: 4 | 6;
        readonly link: Link;
        readonly sysctl: string;
      }
    | {
        readonly kind: "reverse-path";
        readonly link: Link;
        readonly source: string;
        readonly value: number;
        /** Where the way to the source goes instead; undefined when there is none. */
        readonly instead: string | undefined;
        readonly sysctl: string;
      }
    | {
        /** A table says that the source is this namespace's own, or a broadcast: nothing may come in with it. */
        readonly kind: "martian-source";
        readonly link: Link;
        readonly source: string;
        /** `local`, `broadcast`, … */
        readonly type: string;
        readonly route: Route | undefined;
        readonly rule: PolicyRule | undefined;
      }
    | { readonly kind: "no-gateway-address"; readonly link: Link; readonly source: string }
    | { readonly kind: "hairpin-off"; readonly link: Link; readonly bridge: Link; readonly target: string }
    | { readonly kind: "own-source"; readonly source: string; readonly target: string }
    | {
        readonly kind: "untranslated";
        readonly source: string;
        readonly link: Link;
        /** The rule that keeps the flow out of connection tracking: nothing can translate it. */
        readonly untrackedBy: Decision | undefined;
      }
    | {
        /** The pod's own address lies in the out-interface's network: its neighbours ask for it, and nobody answers. */
        readonly kind: "source-unanswered";
        readonly source: string;
        readonly link: Link;
        readonly prefix: string;
      }
    | {
        /** The answer reaches the pod from an address or port that its socket has not asked. */
        readonly kind: "answer-from-another";
        readonly source: string;
        readonly sourcePort: number;
        readonly expected: string;
        readonly expectedPort: number;
      }
    | {
        /** The answer to a translated packet is not turned back: conntrack does not find its flow. */
        readonly kind: "answer-unrecognized";
        readonly link: Link;
        /** `zone`: it looks in another conntrack zone than the flow's. `untracked`: a rule keeps the answer out. */
        readonly why: "zone" | "untracked";
        readonly flowZone: number;
        readonly answerZone: number;
        readonly by: Decision | undefined;
        /** What the rule decided about: the packet, or its answer. */
        readonly chose: Direction;
      }
    | {
        /** Our programs are to translate what leaves here, and one of the two is not attached. */
        readonly kind: "program-detached";
        readonly link: Link;
        readonly side: "egress" | "ingress";
        readonly owner: string;
      }
    | {
        /** Our program finds no address of the link to leave with. */
        readonly kind: "program-without-address";
        readonly link: Link;
        readonly owner: string;
      }
    | {
        readonly kind: "foreign-source";
        readonly source: string;
        readonly link: Link;
        /** The out-interface's own network, where it lies in that: neighbours ask for the address, and nobody answers. */
        readonly prefix: string | undefined;
        readonly by: Decision | undefined;
      }
    | {
        readonly kind: "astray";
        readonly link: Link;
        readonly expected: Link;
        readonly address: string;
        /** The route that leads there, and the policy-routing rule by which it was found. */
        readonly route: Route | undefined;
        readonly rule: PolicyRule | undefined;
      }
  );

export type StopKind = Stop["kind"];

/** Something that sees the packet and cannot be evaluated. */
export interface BlindSpot {
  readonly place: Side;
  readonly text: string;
  /** It stands where packets leave, and could translate them itself. */
  readonly couldTranslate: boolean;
}

/** `pod`: the pod itself, by its own address or because its rules lead the packet back to it. */
export type End = "outside" | "node" | "pod" | "bridged" | "unknown";

/** A translation at a link, of the packet that is followed. */
export interface AtLink {
  readonly link: Link;
  readonly owner: string;
  /** The pod's own, which the answer gets back. */
  readonly source: string;
}

export interface Prediction {
  readonly target: Target;
  readonly family: 4 | 6;
  /** The packet as the pod sends it; undefined when it cannot even be made. */
  readonly sent?: Tuple;
  /** The packet as it leaves the node. */
  readonly left?: Tuple;
  /** How it ends when nothing stops it: at another pod, on the node itself, through an interface of the node. */
  readonly end: End;
  /** Why it ends in the pod or on the node, and who waits for it there. */
  readonly localEnd?: LocalEnd;
  /** The interface at which the answer arrives; not always the one the packet left by. */
  readonly answerLink?: Link;
  /** How the pod's source address was chosen, where no route names it. */
  readonly source?: SourceChoice;
  /** The node's rule that keeps the packet out of connection tracking. */
  readonly untrackedBy?: Decision;
  /** How long the node remembers the flow, where a rule says so. */
  readonly timeouts?: FlowTimeouts;
  /** The IPsec policy that encrypts it on its way out of the node. */
  readonly encryptedBy?: IpsecPolicy;
  /** The IPsec policy that would have encrypted it, had its source not been translated. */
  readonly escaped?: IpsecPolicy;
  /** The virtual service of IPVS that sent it on. */
  readonly balancedBy?: VirtualService;
  /** The packet as the node's routing gets it, and the rule that marked it. */
  readonly routed?: Tuple & {
    readonly mark: number;
    readonly dscp: number;
    readonly markedBy: Decision | undefined;
  };
  /** The marks that the node's rules gave it on its way out, in their order. */
  readonly marks?: readonly GivenMark[];
  /** The node's rule that gave the packet another destination, and which: `203.0.113.55:3128`. */
  readonly redirected?: { readonly by: Decision; readonly to: string };
  readonly outLink?: Link;
  /** The port of a bridge by which the packet leaves: that of outLink, or of the pods' own where it goes no further. */
  readonly outPort?: Link;
  readonly gateway?: string;
  /** The node's interface at which the pod's packets arrive: bridge, or veth without a bridge. */
  readonly inLink?: Link;
  /** Host side of the pod's veth. */
  readonly hostLink?: Link;
  readonly podLink?: Link;
  readonly translatedBy?: Decision;
  /** Translated at the link by which it leaves, by programs of ours instead of a rule. */
  readonly atLink?: AtLink;
  /** The translated address is one of several: which one nobody knows. */
  readonly translatedToOneOf?: string;
  /** The translated port is one of these; `left` names the first. */
  readonly translatedPorts?: PortRange;
  /** The source ports that the translating rule allows, where it names some. */
  readonly allowedPorts?: PortRange;
  readonly steps: readonly PathStep[];
  /** In the order in which the packet would meet them. The first is what happens; the others come next. */
  readonly stops: readonly Stop[];
  readonly blindSpots: readonly BlindSpot[];
  /** MTU of the path behind the node's out-interface, and of the pod's own interface. */
  readonly pathMtu?: number;
}

/** What makes two predictions say the same. */
export function signature(prediction: Prediction): string {
  const { end, left, stops } = prediction;
  const where = stops.map((stop) =>
    stop.kind === "filtered"
      ? `${stop.kind}@${stop.place}/${stop.direction}/${stop.stop.by.base.name}`
      : `${stop.kind}@${stop.place}/${stop.direction}`,
  );
  return [end, left?.source ?? "-", ...where].join(" ");
}
