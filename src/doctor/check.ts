/** What a check is, what it may look at, and how it words what it found. Checks are pure. */
import type { PodState, Snapshot } from "../snapshot/snapshot.ts";
import { entryOf, type FindingCode, type StepName } from "../causes/catalogue.ts";
import { commandIn } from "./command.ts";
import type { Change } from "./remedy/change.ts";
import type { Evidence, Finding, Fix, Repair, RepairPlace } from "./finding.ts";
import type { Prediction, Stop, StopKind, Target } from "./predict/path.ts";
import type { PredictedPath } from "./predict/predict.ts";
import { nameObjects } from "./wording.ts";
import { worldOf, type World } from "./predict/walk.ts";

/** One step's worth of questions about one pod and one target. */
export interface Check {
  readonly step: StepName;
  /** What it can find. */
  readonly codes: readonly FindingCode[];
  readonly run: (context: CheckContext) => readonly Finding[];
  /** What is right by the tables, and would be the reason if a real packet got no answer all the same. */
  readonly suspects?: (context: CheckContext) => readonly Finding[];
}

export class CheckContext {
  readonly node: World;
  /** Undefined when the pod's namespace could not be read. */
  readonly inside: World | undefined;

  constructor(
    readonly snapshot: Snapshot,
    readonly pod: PodState,
    readonly target: Target,
    readonly predicted: PredictedPath,
  ) {
    this.node = worldOf(snapshot.node);
    this.inside = pod.state === undefined ? undefined : worldOf(pod.state);
    for (const state of [snapshot.node, pod.state]) if (state !== undefined) nameObjects(state);
  }

  get path(): Prediction {
    return this.predicted.path;
  }

  get family(): 4 | 6 {
    return this.path.family;
  }

  /** The stops of one kind, in the order in which the packet meets them. */
  stops<K extends StopKind>(kind: K): Extract<Stop, { readonly kind: K }>[] {
    return this.path.stops.filter((stop): stop is Extract<Stop, { readonly kind: K }> => stop.kind === kind);
  }

  /** A command as it must be typed to run in the node's or the pod's namespace. */
  command(place: RepairPlace, command: string): string {
    const path = place === "node" ? this.snapshot.node.path : this.pod.state?.path;
    return commandIn(path, command);
  }

  /**
   * A fix with a command, and the change that does the same.
   * @param change what the command changes, where `--fix` does not do it itself
   */
  fix(place: RepairPlace, command: string, repair?: Repair, change?: Change): Fix {
    return {
      command: this.command(place, command),
      ...(repair === undefined ? {} : { repair }),
      ...(change === undefined ? {} : { change }),
    };
  }

  /** `sysctl -w NAME=VALUE`. */
  setSysctl(place: RepairPlace, name: string, value: string): Fix {
    return this.fix(place, `sysctl -w ${name}=${value}`, { kind: "sysctl", place, name, value });
  }

  linkUp(place: RepairPlace, link: string): Fix {
    return this.fix(place, `ip link set ${link} up`, { kind: "link-up", place, link });
  }

  defaultRoute(gateway: string, link: string): Fix {
    const family = gateway.includes(":") ? "-6 " : "";
    return this.fix("pod", `ip ${family}route replace default via ${gateway} dev ${link}`, {
      kind: "add-default-route",
      place: "pod",
      gateway,
      link,
    });
  }
}

/** A question that is the same for every pod of a snapshot, answered once. It must not look at the pod or the path. */
export function ofNode(ask: (context: CheckContext) => Finding[]): (context: CheckContext) => Finding[] {
  const answers = new WeakMap<Snapshot, Finding[]>();
  return (context) => {
    let answer = answers.get(context.snapshot);
    if (answer === undefined) answers.set(context.snapshot, (answer = ask(context)));
    return answer;
  };
}

/** A finding's own part; the catalogue adds the rest. */
export type Found = Pick<Finding, "text" | "owner" | "consequence"> & {
  readonly evidence: readonly Evidence[];
  readonly fix?: readonly Fix[];
  readonly advice?: readonly string[];
  readonly confidence?: Finding["confidence"];
};

export function finding(code: FindingCode, found: Found): Finding {
  const { severity, stopsTraffic } = entryOf(code);
  return { code, severity, stopsTraffic, fix: [], confidence: "certain", ...found };
}

/** Text of a sysctl as evidence. */
export function sysctlEvidence(name: string, value: string | number | undefined): Evidence {
  return { source: `sysctl ${name}`, value: value === undefined ? "not there" : String(value) };
}
