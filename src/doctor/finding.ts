/** What the doctor found: a cause, with the evidence for it, whose it is, what it does and how to mend it. */
import type { CommandLine } from "../text/command.ts";
import type { Change } from "./remedy/change.ts";
import type { Repair, RepairPlace } from "./remedy/repair.ts";
import type { FindingCode, Severity } from "../causes/catalogue/all.ts";

/** `certain`: the kernel said so, or it follows from what it said. `likely`: it fits, something else could explain it. */
export type Confidence = "certain" | "likely" | "possible";

/** One thing that was read, with the value as it was read. */
export interface Evidence {
  /** Where: `sysctl net.ipv4.ip_forward`, `table ip filter chain FORWARD`, `ip route get 198.51.100.80`. */
  readonly source: string;
  /** The raw value. */
  readonly value: string;
}

export interface Fix {
  /** A command line that a person can paste. */
  readonly command: CommandLine;
  /** The namespace that it changes; absent for what only looks, or says itself where it acts. */
  readonly place?: RepairPlace;
  /** The same as a change that `doctor --fix` makes itself; absent when it is not ours to make. */
  readonly repair?: Repair;
  /** What the command changes, where that is no repair of ours: by it the fix is judged. Not printed. */
  readonly change?: Change;
}

export interface Finding {
  readonly code: FindingCode;
  /** One sentence that names the objects: "net.ipv4.ip_forward is 0: the node forwards nothing". */
  readonly text: string;
  readonly severity: Severity;
  /** The pod's traffic to the target cannot pass while this stands. */
  readonly stopsTraffic: boolean;
  readonly evidence: readonly Evidence[];
  /** Whose it is: `Docker`, `wayout`, `the kernel's settings`, `the pod's runtime`. */
  readonly owner: string;
  readonly consequence: string;
  /** What mends it, in this order. */
  readonly fix: readonly Fix[];
  /** What else helps and is no command. */
  readonly advice?: readonly string[];
  readonly confidence: Confidence;
  /** Which part of all flows it stops, 0 to 1, where that is for the kernel to choose; absent: all that were asked about. */
  readonly share?: number;
}
