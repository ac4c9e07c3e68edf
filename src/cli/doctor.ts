import { Command } from "commander";
import { isIp } from "../address/ip.ts";
import { diagnose, type Diagnosis } from "../doctor/diagnose.ts";
import { ANYWHERE } from "../doctor/anywhere.ts";
import { diagnoseAnywhere } from "../doctor/families.ts";
import type { Target } from "../doctor/predict/path.ts";
import { WayoutError } from "../error.ts";
import { NetworkNamespace } from "../kernel/namespace.ts";
import { findPod, formerPod } from "../pods/find.ts";
import { listPods } from "../pods/inventory.ts";
import type { Pod } from "../pods/pod.ts";
import { openNodeOf } from "../pods/wiring.ts";
import { takeSnapshot } from "../snapshot/collect.ts";
import { readSnapshot } from "../snapshot/file.ts";
import { isForbidden, type PodState, type Snapshot } from "../snapshot/snapshot.ts";
import { parseTarget, type TraceTarget } from "../trace/observe/destination.ts";
import { resolve } from "../trace/observe/resolver.ts";
import { diagnosisText, groupFindings, manyText } from "./doctor-report.ts";
import { openNamespace } from "./namespace-option.ts";
import { printJson, tell } from "./output.ts";

const HELP = `
Without --to nothing is sent: the path of a packet to a public address is followed through the node's own tables, over
IPv4 and, where the pod and the node have a default route for it, over IPv6. With --to the doctor then sends one real
packet from inside the pod (as 'wayout trace' does) and, when that comes through, a few pings of several sizes; unless
--no-probe.

Examples:
  sudo wayout doctor                              every pod of this node, equal findings together
  sudo wayout doctor ns-blue --to api.github.com  one pod, one destination
  sudo wayout doctor ns-blue --fix                mend what is ours, after asking
  sudo wayout doctor --watch                      look again when something changes, and tell what became of it
  wayout doctor --snapshot node.json              judge a snapshot from another machine
  wayout snapshot > node.json                     take one

A POD is named by its ip netns name, a path, pid:N, a container id, namespace/pod or its IP address.
Exit code 0: healthy, or only warnings. 1: a finding stops the traffic. 3: something that decides could not be read.`;

const RESOLVE_TIMEOUT_MS = 3_000;

export interface DoctorOptions {
  readonly to?: string;
  readonly proto?: string;
  readonly fix?: true;
  readonly yes?: true;
  readonly watch?: true;
  readonly snapshot?: string;
  readonly probe: boolean;
  readonly node?: string;
  readonly json?: true;
}

/** `wayout doctor`. */
export function doctorCommand(): Command {
  return new Command("doctor")
    .description("why can this pod not reach the outside? The checklist, with evidence and cure")
    .argument("[pod]", "which pod; all of this node when absent")
    .option("--to <destination>", "HOST, HOST:PORT or [V6]:PORT the pod wants to reach")
    .option("--proto <protocol>", "tcp, udp or icmp", "tcp")
    .option("--fix", "mend what is ours to mend, after asking")
    .option("--yes", "do not ask")
    .option("--watch", "look again and again, and tell what changes")
    .option("--snapshot <file>", "judge a snapshot instead of this machine; - reads standard input")
    .option("--no-probe", "send nothing, predict only")
    .option(
      "--node <netns|path>",
      "the namespace that plays the node; default: the one the pod's cable leads to",
    )
    .option("--json", "one JSON value")
    .addHelpText("after", HELP)
    .action(async (pod: string | undefined, options: DoctorOptions) => {
      // Most runs only predict: the rest is loaded where it is asked for.
      if (options.watch === true) {
        const { watchDoctor } = await import("./doctor-watch.ts");
        await watchDoctor(() => examine(pod, options), options.json === true, pod !== undefined);
        return;
      }
      const examined = examine(pod, options);
      const diagnoses = await withProbe(examined, pod, options);
      report(diagnoses, pod !== undefined, options);
      if (options.fix === true && options.snapshot === undefined) {
        const { applyFixes } = await import("./doctor-fix.ts");
        const healed = await applyFixes(
          examined.snapshot,
          diagnoses,
          options,
          () => examine(pod, options).diagnoses,
        );
        if (healed !== undefined) report(healed, pod !== undefined, options);
        if (healed?.every((one) => one.healthy) === true) return;
      }
      if (diagnoses.some((one) => !one.healthy)) process.exitCode = 1;
      else if (diagnoses.some((one) => one.blind)) process.exitCode = 3;
    });
}

/** The diagnosis of one pod together with what real packets did; unchanged when nothing is to be sent. */
async function withProbe(
  { snapshot, diagnoses }: Examined,
  pod: string | undefined,
  options: DoctorOptions,
): Promise<readonly Diagnosis[]> {
  const [only] = diagnoses;
  if (pod === undefined || only === undefined || options.to === undefined) return diagnoses;
  if (!options.probe || options.snapshot !== undefined) return diagnoses;
  const { probed } = await import("./doctor-probe.ts");
  return [probed(snapshot, pod, only)];
}

function report(diagnoses: readonly Diagnosis[], single: boolean, options: DoctorOptions): void {
  const [only] = diagnoses;
  if (options.json === true) {
    printJson(
      single && only !== undefined
        ? only
        : {
            healthy: diagnoses.every((one) => one.healthy && !one.blind),
            groups: groupFindings(diagnoses),
            pods: diagnoses,
          },
    );
  } else if (single && only !== undefined) tell(diagnosisText, only);
  else tell(manyText, diagnoses);
}

export interface Examined {
  readonly snapshot: Snapshot;
  readonly diagnoses: readonly Diagnosis[];
}

/** Looks, and judges. */
export function examine(podName: string | undefined, options: DoctorOptions): Examined {
  const wanted =
    options.to === undefined ? undefined : parseTarget(options.to, { protocol: options.proto ?? "tcp" });
  const snapshot =
    options.snapshot === undefined
      ? lookAtThisMachine(podName, options, wanted)
      : readSnapshot(options.snapshot);
  const pods =
    podName === undefined ? judged(snapshot) : [chosen(snapshot, podName, options.snapshot === undefined)];
  const address = wanted === undefined || isIp(wanted.host) ? wanted?.host : undefined;
  if (wanted !== undefined && address === undefined && options.snapshot !== undefined)
    throw namesNeedAPod(wanted);
  return {
    snapshot,
    diagnoses: pods.map((pod) =>
      wanted === undefined
        ? diagnoseAnywhere(snapshot, pod)
        : diagnose(snapshot, pod, targetOf(wanted, resolved.get(snapshot))),
    ),
  };
}

/** Names resolved while the snapshot was taken. */
const resolved = new WeakMap<Snapshot, string>();

function lookAtThisMachine(
  podName: string | undefined,
  options: DoctorOptions,
  wanted: TraceTarget | undefined,
): Snapshot {
  const pod = podName === undefined ? undefined : podOrFormer(podName);
  const node = nodeNamespace(pod, options);
  try {
    const address = wanted === undefined ? undefined : addressOf(wanted, pod, options);
    const destinations = address === undefined ? [ANYWHERE[4].address, ANYWHERE[6].address] : [address];
    const everybody = listPods().filter((one) => one.inode !== node.inode);
    const snapshot =
      pod === undefined
        ? takeSnapshot({ node, pods: everybody, onlyOfNode: true, destinations, deferred: true })
        : takeSnapshot({
            node,
            pods: [pod],
            others: everybody.filter((one) => one.inode !== pod.inode),
            destinations,
            deferred: true,
          });
    refuseUnprivileged(snapshot);
    if (address !== undefined) resolved.set(snapshot, address);
    return snapshot;
  } finally {
    node.close();
  }
}

/** @throws WayoutError no-privilege: what nobody could look at is neither healthy nor broken */
function refuseUnprivileged({ missing }: Snapshot): void {
  const decisive = new Set(["namespace", "ruleset"]);
  const refused = missing.find((one) => decisive.has(one.what) && isForbidden(one));
  if (refused === undefined) return;
  throw new WayoutError({
    code: "no-privilege",
    kind: "machine",
    doing: `reading the ${refused.what} of ${refused.where === "node" ? "the node" : refused.where}`,
    said: refused.why,
    todo: "Only root may look into network namespaces and rules: run it as root (sudo wayout doctor …).",
  });
}

/** Also a pod that is no more: that is an answer, and no mistake of whoever asks. */
function podOrFormer(name: string): Pod {
  try {
    return findPod(name);
  } catch (error) {
    const former = error instanceof WayoutError && error.code === "unknown-pod" ? formerPod(name) : undefined;
    if (former === undefined) throw error;
    return former;
  }
}

/** The namespace that plays the node: the one named, the one the pod's cable leads to, or ours. */
function nodeNamespace(pod: Pod | undefined, options: DoctorOptions): NetworkNamespace {
  if (options.node !== undefined || pod === undefined) return openNamespace(options.node);
  try {
    using inside = NetworkNamespace.open(pod.path);
    return openNodeOf(pod, inside);
  } catch {
    // No interface, no cable, or no namespace: that is what the checks will say.
    return NetworkNamespace.current();
  }
}

function addressOf(wanted: TraceTarget, pod: Pod | undefined, options: DoctorOptions): string {
  if (isIp(wanted.host)) return wanted.host;
  if (pod === undefined || !options.probe) throw namesNeedAPod(wanted);
  using inside = NetworkNamespace.open(pod.path);
  return resolve(pod, inside, wanted.host, undefined, RESOLVE_TIMEOUT_MS).address;
}

function namesNeedAPod({ host }: TraceTarget): WayoutError {
  return new WayoutError({
    code: "destination-not-an-address",
    kind: "usage",
    doing: `looking for the way to ${host}`,
    said: "a name is resolved from inside one live pod, which sends packets",
    todo: "Give an address, or name a pod and leave --no-probe out.",
  });
}

/** Pods that were read completely. */
function judged(snapshot: Snapshot): readonly PodState[] {
  return snapshot.pods.filter((pod) => pod.state === undefined || pod.state.rules.length > 0);
}

/** @param justTaken for this pod: it is the first, whatever it was called (pid:N, the beginning of an id) */
function chosen(snapshot: Snapshot, name: string, justTaken: boolean): PodState {
  const found = snapshot.pods.find(
    (pod) =>
      pod.name === name ||
      pod.aliases.includes(name) ||
      pod.state?.path === name ||
      pod.state?.addresses.some((one) => one.address === name) === true,
  );
  const first = snapshot.pods[0];
  if (found !== undefined) return found;
  if (justTaken && first !== undefined) return first;
  throw new WayoutError({
    code: "unknown-pod",
    kind: "usage",
    doing: `looking for ${name} in the snapshot`,
    said: "there is no such pod in it",
    todo: `There are: ${snapshot.pods.map((pod) => pod.name).join(", ") || "none"}.`,
  });
}

function targetOf(wanted: TraceTarget, address = wanted.host): Target {
  const protocol = wanted.protocol === "icmp" && address.includes(":") ? "icmpv6" : wanted.protocol;
  return { address, protocol, port: wanted.port ?? 0 };
}
