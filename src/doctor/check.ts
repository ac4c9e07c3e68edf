/** What a check is, what it may look at, and how it words what it found. Checks are pure. */
import { familyOf } from "../address/ip.ts";
import type { Link } from "../linux/route/link.ts";
import { hostEndOf, nodeLinkOf, type Inside, type LinkAt } from "../snapshot/host-end.ts";
import type { PodState, Snapshot } from "../snapshot/snapshot.ts";
import { nftName } from "../linux/nftables/spelling.ts";
import { sysctlWord } from "../linux/sysctl-name.ts";
import { command, commandIn, type CommandLine } from "../text/command.ts";
import { catalogueEntry, type FindingCode, type StepName } from "../causes/catalogue/all.ts";
import { isNeverAdvised } from "../causes/never-advised.ts";
import type { Change } from "./remedy/change.ts";
import type { Decision } from "./predict/decision.ts";
import type { Evidence, Finding, Fix } from "./finding.ts";
import type { Repair, RepairPlace } from "./remedy/repair.ts";
import type { RouteRequest, RouteResult } from "./predict/fib.ts";
import { transportOf } from "./predict/packet.ts";
import type { Prediction, Stop, StopKind, Target } from "./predict/path.ts";
import type { PredictedPath } from "./predict/predict.ts";
import { decisionCounted, decisionPlace, nameObjects } from "./wording.ts";
import { preparedNamespace, type PreparedNamespace } from "./predict/walk.ts";
import { present } from "../present.ts";

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
  readonly node: PreparedNamespace;
  /** Undefined when the pod's namespace could not be read. */
  readonly inside: PreparedNamespace | undefined;

  constructor(
    readonly snapshot: Snapshot,
    readonly pod: PodState,
    readonly target: Target,
    readonly predicted: PredictedPath,
  ) {
    this.node = preparedNamespace(snapshot.node);
    this.inside = pod.state === undefined ? undefined : preparedNamespace(pod.state);
    for (const state of [snapshot.node, pod.state]) if (state !== undefined) nameObjects(state);
  }

  get path(): Prediction {
    return this.predicted.path;
  }

  get family(): 4 | 6 {
    return this.path.family;
  }

  /** The node's link that one of the pod's is on. @param inside of another pod, where the link is that one's */
  nodeLinkOf(link: Link, inside: Inside | undefined = this.pod.state): Link | undefined {
    return inside === undefined ? undefined : nodeLinkOf(this.#linkAt, inside, link);
  }

  /** The node's end of a veth of the pod's. @param inside of another pod, where the link is that one's */
  hostEndOf(link: Link, inside: Inside | undefined = this.pod.state): Link | undefined {
    return inside === undefined ? undefined : hostEndOf(this.#linkAt, inside, link);
  }

  readonly #linkAt: LinkAt = (index) => this.node.view.linkAt(index);

  /** What the node's routing is asked about the packet; undefined where it did not get so far. */
  get routedFlow(): (RouteRequest & { readonly iif: string }) | undefined {
    const { routed, inLink } = this.path;
    if (routed === undefined || inLink === undefined) return undefined;
    const { source, destination, mark } = routed;
    return { source, destination, mark, ...transportOf(routed), iif: inLink.name };
  }

  /** Where the node's rules and tables send it, by their own word; undefined where it did not get so far. */
  get routedWay(): RouteResult | undefined {
    const flow = this.routedFlow;
    return flow === undefined ? undefined : this.node.view.fib.predict(flow);
  }

  /** The stops of one kind, in the order in which the packet meets them. */
  stops<K extends StopKind>(kind: K): Extract<Stop, { readonly kind: K }>[] {
    return this.path.stops.filter((stop): stop is Extract<Stop, { readonly kind: K }> => stop.kind === kind);
  }

  /**
   * A fix with a command, in the node's or the pod's namespace, and the change that does the same.
   * @param change what the command changes, where `--fix` does not do it itself
   */
  fix(place: RepairPlace, line: CommandLine | undefined, repair?: Repair, change?: Change): Fix | undefined {
    const path = place === "node" ? this.snapshot.node.path : this.pod.state?.path;
    // What no command line can spell, the repair still can: it knows the objects by their numbers.
    const shown = commandIn(path, line) ?? (repair === undefined ? undefined : this.#doctorItself());
    if (shown === undefined) return undefined;
    return present({
      command: shown,
      place,
      repair,
      change,
    });
  }

  #doctorItself(): CommandLine | undefined {
    return command`wayout doctor --fix ${this.pod.name}`;
  }

  /** `sysctl -w NAME=VALUE`. */
  setSysctl(place: RepairPlace, name: string, value: string): Fix | undefined {
    const line = command`sysctl -w ${sysctlWord(name)}=${value}`;
    return this.fix(place, line, { kind: "sysctl", place, name, value });
  }

  linkUp(place: RepairPlace, link: string): Fix | undefined {
    return this.fix(place, command`ip link set dev ${link} up`, { kind: "link-up", place, link });
  }

  /** @param source with which the pod shall send; the kernel's choice when absent */
  defaultRoute(gateway: string, link: string, source?: string): Fix | undefined {
    const words = source === undefined ? [] : ["src", source];
    const line = command`ip ${familyFlag(gateway)} route replace default via ${gateway} dev ${link} ${words}`;
    return this.fix(
      "pod",
      line,
      present({
        kind: "add-default-route",
        place: "pod",
        gateway,
        link,
        source,
      }),
    );
  }
}

/** A command for wherever the reader is: it says itself which pod or namespace it is about. */
export function anywhere(line: CommandLine | undefined): Fix | undefined {
  return line === undefined ? undefined : { command: line };
}

/** Advice with a command in it; none where the command cannot be spelled. */
export function said(before: string, line: CommandLine | undefined): readonly string[] {
  return line === undefined ? [] : [`${before}${line}`];
}

/** Takes a rule of nf_tables away; nft finds it by its handle, whatever is written in it. */
export function deleteRuleFix(
  context: CheckContext,
  place: RepairPlace,
  { table, chain, rule }: Decision,
): Fix | undefined {
  if (rule === undefined) return undefined;
  const where = [nftName(table.name), nftName(chain.name)] as const;
  return context.fix(
    place,
    command`nft delete rule ${table.family} ${where[0]} ${where[1]} handle ${rule.handle}`,
    undefined,
    { kind: "delete-filter-rule", place, table, chain, rule },
  );
}

/** iproute2's own option for the family of an address: none for IPv4, which is its default. */
export function familyFlag(address: string): readonly string[] {
  return familyOf(address) === 6 ? ["-6"] : [];
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
  /** Those for which there is a command. */
  readonly fix?: readonly (Fix | undefined)[];
  readonly advice?: readonly string[];
  readonly confidence?: Finding["confidence"];
  readonly share?: number;
};

export function finding(code: FindingCode, found: Found): Finding {
  const { severity, stopsTraffic } = catalogueEntry(code);
  const fix = (found.fix ?? [])
    .filter((one) => one !== undefined)
    .filter((one) => !isNeverAdvised(one.command));
  const advice = found.advice?.filter((one) => !isNeverAdvised(one));
  return {
    code,
    severity,
    stopsTraffic,
    confidence: "certain",
    ...found,
    fix,
    ...present({ advice }),
  };
}

/** The rule or the policy that decides, where it stands and as its own tool writes it; nothing where there is none. */
export function ruleEvidence(by: Decision | undefined): Evidence[] {
  return by === undefined ? [] : [{ source: decisionPlace(by), value: decisionCounted(by) }];
}

/** Text of a sysctl as evidence. */
export function sysctlEvidence(name: string, value: string | number | undefined): Evidence {
  return { source: `sysctl ${name}`, value: value === undefined ? "not there" : String(value) };
}
