/** Takes the snapshot of a node: its own namespace and those of its pods. */
import { release } from "node:os";
import { NetworkNamespace } from "../kernel/namespace.ts";
import type { Pod } from "../pods/pod.ts";
import { VERSION } from "../version.ts";
import { Gaps, readAgain, readNamespace, recordAnswers } from "./namespace.ts";
import { readConfigFiles, readDnsListeners, readResolvConf } from "./pod-files.ts";
import {
  SNAPSHOT_FORMAT,
  SNAPSHOT_VERSION,
  type NamespaceState,
  type PodState,
  type RecordedQuery,
  type Snapshot,
  type WayoutState,
} from "./snapshot.ts";

export interface SnapshotRequest {
  /** The node's namespace; the calling thread's when absent. */
  readonly node?: NetworkNamespace;
  /** Pods to read completely. */
  readonly pods: readonly Pod[];
  /** Pods of which only the addresses matter: who else has this one's? */
  readonly others?: readonly Pod[];
  /** Destinations for which the kernel's own route answers are recorded. */
  readonly destinations: readonly string[];
  readonly wayoutState?: WayoutState;
}

/** Reads everything once, and the counters a second time at the end. */
export function takeSnapshot(request: SnapshotRequest): Snapshot {
  const gaps = new Gaps();
  const node = request.node ?? NetworkNamespace.current();
  const takenAt = new Date().toISOString();
  try {
    const queries = request.destinations.map((destination) => ({ destination }));
    const first = readNamespace(node, { name: "node", queries }, gaps);
    const pods = [
      ...request.pods.map((pod) => readPod(pod, request.destinations, gaps)),
      ...(request.others ?? []).map((pod) => readPod(pod, undefined, gaps)),
    ];
    const asked = recordAnswers(node, first, podQueries(first, pods, request.destinations), "node", gaps);
    return {
      format: SNAPSHOT_FORMAT,
      version: SNAPSHOT_VERSION,
      wayout: VERSION,
      takenAt,
      kernelRelease: release(),
      node: readAgain(node, asked),
      pods,
      files: readConfigFiles(gaps),
      missing: gaps.missing,
      ...(request.wayoutState === undefined ? {} : { wayoutState: request.wayoutState }),
    };
  } finally {
    if (request.node === undefined) node.close();
  }
}

/** @param destinations undefined: only links and addresses are read */
function readPod(pod: Pod, destinations: readonly string[] | undefined, gaps: Gaps): PodState {
  const light = destinations === undefined;
  const head = headOf(pod);
  let namespace: NetworkNamespace;
  try {
    namespace = NetworkNamespace.open(pod.path);
  } catch (error) {
    gaps.note(pod.name, "namespace", error);
    return head;
  }
  try {
    const queries = (destinations ?? []).map((destination) => ({ destination }));
    const state = readNamespace(namespace, { name: pod.name, queries, light }, gaps);
    if (light) return { ...head, state };
    const resolvConf = gaps.try(pod.name, "resolv.conf", () => readResolvConf(pod));
    const dnsListeners = gaps.try(pod.name, "listeners", () => readDnsListeners(namespace));
    return {
      ...head,
      state,
      ...(resolvConf === undefined ? {} : { resolvConf }),
      ...(dnsListeners === undefined ? {} : { dnsListeners }),
    };
  } catch (error) {
    gaps.note(pod.name, "namespace", error);
    return head;
  } finally {
    namespace.close();
  }
}

function headOf(pod: Pod): PodState {
  const [attachment] = pod.attachments;
  return {
    name: pod.name,
    aliases: pod.aliases,
    source: pod.source,
    ...(attachment === undefined
      ? {}
      : {
          expected: {
            name: attachment.interface,
            addresses: attachment.addresses,
            gateways: attachment.gateways,
            network: attachment.network,
          },
        }),
  };
}

/** Where would the node send what each pod sends, as a packet that comes in by the pod's link? */
function podQueries(
  node: NamespaceState,
  pods: readonly PodState[],
  destinations: readonly string[],
): RecordedQuery[] {
  const byIndex = new Map(node.links.map((link) => [link.index, link]));
  return pods.flatMap(({ state }) => {
    if (state === undefined || state.routes.length === 0) return [];
    return state.links.flatMap((link) => {
      const host = link.kind === "veth" && link.link !== undefined ? byIndex.get(link.link) : undefined;
      if (host === undefined) return [];
      const inLink = (host.master === undefined ? undefined : byIndex.get(host.master)) ?? host;
      const sources = state.addresses.filter((one) => one.interface === link.index && one.scope === "global");
      return sources.flatMap(({ address, family }) =>
        destinations
          .filter((destination) => destination.includes(":") === (family === 6))
          .map((destination) => ({ destination, source: address, iif: inLink.name })),
      );
    });
  });
}
