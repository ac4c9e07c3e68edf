/**
 * Room `examination/`: looking at a node and judging it, for the command line, the agent, or a program.
 *
 * In: names of pods and destinations as people write them.
 * Out: what was read and what it means: examine, probe, watch; fixes as steps, each carried out only after a
 *   confirmation.
 * Touches: it opens namespaces of pods. It sends a query to the pod's name server when the destination is a name, and
 *   one packet where a probe is asked for; it changes only what a confirmed fix says.
 */
import { familyOf, isIp } from "../address/ip.ts";
import { diagnose, type Diagnosis } from "../doctor/diagnose.ts";
import { networkPluginFindings } from "../doctor/checks/network-plugins.ts";
import type { Finding } from "../doctor/finding.ts";
import { ANYWHERE } from "../doctor/anywhere.ts";
import { diagnoseAnywhere } from "../doctor/families.ts";
import type { Target } from "../doctor/predict/path.ts";
import { WayoutError } from "../error.ts";
import { NetworkNamespace } from "../kernel/namespace.ts";
import { findPod, formerPod } from "../pods/find.ts";
import { listPods } from "../pods/inventory.ts";
import { openNamespace } from "../pods/open-namespace.ts";
import type { Pod } from "../pods/pod.ts";
import { openNodeOf } from "../pods/wiring.ts";
import { takeSnapshot } from "../snapshot/collect.ts";
import { readSnapshot } from "../snapshot/file.ts";
import { isForbidden, type PodState, type Snapshot } from "../snapshot/snapshot.ts";
import { parseTarget, type TraceTarget } from "../trace/observe/destination.ts";
import { resolve } from "../trace/observe/resolver.ts";
import { present } from "../present.ts";

const RESOLVE_TIMEOUT_MS = 3_000;

export interface ExaminationRequest {
  /** As a person names it; every pod of the node when absent. */
  readonly pod?: string;
  /** HOST, HOST:PORT or [V6]:PORT; anywhere outside when absent. */
  readonly to?: string;
  /** tcp, udp or icmp; tcp when absent. */
  readonly protocol?: string;
  /** Name or path of the namespace that plays the node; the one that the pod's veth leads to, or ours, when absent. */
  readonly node?: string;
  /** What to judge instead of this machine: a snapshot, or the file of one; - is standard input. */
  readonly snapshot?: string | Snapshot;
  /** Nothing may be sent, not even a question for a name. */
  readonly silent?: boolean;
}

/** What was seen, and what it means. */
export interface Examination {
  readonly snapshot: Snapshot;
  /** The address that the destination's name has in the pod; absent when it was none. */
  readonly resolved?: string;
  /** One for each pod that was asked about. */
  readonly diagnoses: readonly Diagnosis[];
  /** What keeps new pods from starting, whether there are others or not. */
  readonly node: readonly Finding[];
}

/** Looks, and judges. @throws WayoutError `unknown-pod`, `destination-not-an-address`, what reading refuses */
export function examine(request: ExaminationRequest): Examination {
  const { to, pod: name, snapshot: file } = request;
  const wanted = to === undefined ? undefined : parseTarget(to, { protocol: request.protocol ?? "tcp" });
  if (wanted !== undefined && !isIp(wanted.host) && file !== undefined) throw namesNeedAPod(wanted);
  const { snapshot, resolved } =
    file === undefined
      ? lookAtThisMachine(request, wanted)
      : { snapshot: typeof file === "string" ? readSnapshot(file) : file };
  const pods = name === undefined ? judged(snapshot) : [chosen(snapshot, name, file === undefined)];
  // Without a pod nobody's blind spots would be told: that none was found says nothing where nobody could look.
  if (pods.length === 0) refuseUnprivileged(snapshot);
  return present({
    snapshot,
    resolved,
    diagnoses: pods.map((pod) =>
      wanted === undefined
        ? diagnoseAnywhere(snapshot, pod)
        : diagnose(snapshot, pod, targetOf(wanted, resolved)),
    ),
    node: networkPluginFindings(snapshot),
  });
}

function lookAtThisMachine(
  request: ExaminationRequest,
  wanted: TraceTarget | undefined,
): { readonly snapshot: Snapshot; readonly resolved?: string } {
  const pod = request.pod === undefined ? undefined : podOrFormer(request.pod);
  const node = nodeNamespace(pod, request);
  try {
    const address = wanted === undefined ? undefined : destinationAddress(wanted, pod, request);
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
    return present({ snapshot, resolved: address });
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
    todo: "Only root may read network namespaces and rules: run it, or take the snapshot, as root (sudo wayout …).",
  });
}

/** Also a pod that is no more: that is an answer, and no mistake of the caller. */
function podOrFormer(name: string): Pod {
  try {
    return findPod(name);
  } catch (error) {
    const former = error instanceof WayoutError && error.code === "unknown-pod" ? formerPod(name) : undefined;
    if (former === undefined) throw error;
    return former;
  }
}

/** The namespace that plays the node: the one named, the one the pod's veth leads to, or ours. */
function nodeNamespace(pod: Pod | undefined, { node }: ExaminationRequest): NetworkNamespace {
  if (node !== undefined || pod === undefined) return openNamespace(node);
  try {
    using inside = NetworkNamespace.open(pod.path);
    return openNodeOf(pod, inside);
  } catch {
    // No interface, no veth, or no namespace: that is what the checks will say.
    return NetworkNamespace.current();
  }
}

function destinationAddress(
  wanted: TraceTarget,
  pod: Pod | undefined,
  { silent }: ExaminationRequest,
): string {
  if (isIp(wanted.host)) return wanted.host;
  if (pod === undefined || silent === true) throw namesNeedAPod(wanted);
  using inside = NetworkNamespace.open(pod.path);
  return resolve(pod, inside, wanted.host, undefined, RESOLVE_TIMEOUT_MS).address;
}

function namesNeedAPod({ host }: TraceTarget): WayoutError {
  return new WayoutError({
    code: "destination-not-an-address",
    kind: "usage",
    doing: `looking for the way to ${host}`,
    said: "a name is resolved from inside one running pod, which sends packets",
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
  const protocol = wanted.protocol === "icmp" && familyOf(address) === 6 ? "icmpv6" : wanted.protocol;
  return { address, protocol, port: wanted.port ?? 0 };
}
