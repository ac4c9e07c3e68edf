/** What a trace says, as plain JSON. The ladder, the page and the library's callers all read this. */
import type { CommandLine } from "../text/command.ts";
import type { CauseCode } from "../causes/catalogue/all.ts";
import type { NotObserved } from "./evidence.ts";

export type StepNumber = 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9;

/**
 * `proven`: the kernel showed that it happened. `stopped`: the packet ended here. `not-reached`: it ended before.
 * `not-needed`: this path does without the step. `unseen`: the exchange succeeded, so it must have happened, but no
 * instrument saw it.
 */
export type TraceStepStatus = "proven" | "stopped" | "not-reached" | "not-needed" | "unseen";

export interface StepEvidence {
  /** Who says so: "capture on br0", "sysctl", "nf_tables trace", "conntrack", "route". */
  readonly source: string;
  readonly lines: readonly string[];
}

export interface StepReport {
  readonly number: StepNumber;
  readonly title: string;
  readonly status: TraceStepStatus;
  /** What happened, in one sentence. */
  readonly text: string;
  readonly evidence: readonly StepEvidence[];
  /** Microseconds since the first packet was seen; absent when nothing dates the step. */
  readonly atUs?: number;
}

export interface StopFix {
  readonly place: "pod" | "node";
  readonly command: CommandLine;
}

/** Where and why it ended. */
export interface TraceStop {
  readonly step: StepNumber;
  /** Stable, for programs; the doctor's finding of the same cause has the same. */
  readonly code: CauseCode;
  /** One sentence with the values that were read. */
  readonly reason: string;
  /** Where the packet was last seen: "br0 on the node". */
  readonly lastSeen: string;
  readonly evidence: readonly StepEvidence[];
  /** What to do: a command, or where to look. */
  readonly todo?: string | undefined;
  /** Commands that mend it, and the namespace that they are meant for. */
  readonly fix?: readonly StopFix[];
  /** Whose it is, where that is known. */
  readonly owner?: string;
  /** The rule that decided, where one did. */
  readonly rule?: RuleReport;
}

/** A rule that decided about the packet. */
export interface RuleReport {
  readonly family: string;
  readonly table: string;
  readonly chain: string;
  /** Absent for a chain's policy and for iptables-legacy. */
  readonly handle?: number;
  /** As the rule's own program writes it. */
  readonly text: string;
  /** Whose it is, as far as it can be told: "wayout", "Docker". */
  readonly owner?: string;
}

export type StationKind = "pod" | "veth" | "bridge" | "node" | "uplink" | "outside";

/** One station of the picture, from the pod outwards. */
export interface Station {
  readonly kind: StationKind;
  /** Name of the interface, pod or host. */
  readonly name: string;
  /** Its address on this path, when it has one. */
  readonly address?: string;
}

/** The exchange's packet seen at a place. */
export interface Sighting {
  /** From the pod, or to the pod. */
  readonly heading: "out" | "back";
  readonly place: StationKind;
  readonly interface: string;
  /** Microseconds since the first sighting. */
  readonly atUs: number;
  readonly summary: string;
}

export interface TranslationReport {
  readonly before: string;
  readonly after: string;
  readonly rule?: RuleReport;
}

export interface TraceReport {
  readonly pod: string;
  readonly destination: {
    /** As it was asked for. */
    readonly host: string;
    readonly address: string;
    readonly port?: number;
    readonly protocol: "tcp" | "udp" | "icmp";
    /** Who resolved the name. */
    readonly nameserver?: string;
  };
  /** A host outside began it: the steps are those of a packet to the pod, and of the pod's answer. */
  readonly begunBy?: "outside";
  /** `answered`: it came back. `refused`: it came back as a no of the destination itself. `stopped`: it did not. */
  readonly outcome: "answered" | "refused" | "stopped";
  /** What the answer was: "connection established", "HTTP/1.1 200 OK, 312 bytes". */
  readonly answer?: string;
  readonly stop?: TraceStop;
  readonly path: readonly Station[];
  readonly steps: readonly StepReport[];
  readonly sightings: readonly Sighting[];
  /** The source before and after; absent when it was not translated, or never got that far. */
  readonly translation?: TranslationReport;
  /** The same of the destination, e.g. a service's address that became a pod's. */
  readonly destinationTranslation?: TranslationReport;
  /** From the first packet to the answer in the pod, microseconds. */
  readonly roundTripUs?: number;
  /** Worth knowing although it did not stop this packet. */
  readonly notes: readonly string[];
  /** Instruments that this user or kernel does not have. */
  readonly missing: readonly NotObserved[];
}
