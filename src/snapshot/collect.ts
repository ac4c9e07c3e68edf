/**
 * Room `snapshot/`: takes the snapshot of a node: its own namespace and those of its pods. snapshot.ts is the format,
 * shape/ checks one that came from outside.
 *
 * In: pods, or a file.
 * Out: one plain JSON value, with what could not be read and why.
 * Touches: it reads namespaces, rules, settings and files; it changes nothing, and puts no process, environment or
 *   payload into it.
 */
import { familyOf, isDefaultCidr, isIp } from "../address/ip.ts";
import { isLoopbackAddress } from "../address/special-purpose.ts";
import { release } from "node:os";
import { cidrContains, cidrOf } from "../address/cidr.ts";
import { NetworkNamespace } from "../kernel/namespace.ts";
import type { Pod } from "../pods/pod.ts";
import { VERSION } from "../version.ts";
import { hostEndOf } from "./host-end.ts";
import { readNatRecords, readPromises } from "./nat-record.ts";
import {
  Gaps,
  readAddresses,
  readAgain,
  readNamespace,
  recordAnswers,
  type ReadOptions,
} from "./namespace.ts";
import { readTrackedFlows } from "./flows.ts";
import { readNetworkPlugins } from "./network-plugins.ts";
import { readConfigFiles, readDnsListeners, readResolvConf } from "./pod-files.ts";
import {
  SNAPSHOT_FORMAT,
  SNAPSHOT_VERSION,
  type ExpectedInterface,
  type NamespaceState,
  type PodState,
  type RecordedQuery,
  type Snapshot,
} from "./snapshot.ts";
import { present } from "../present.ts";

export interface SnapshotRequest {
  /** The node's namespace; the calling thread's when absent. */
  readonly node?: NetworkNamespace;
  /** Pods to read completely. */
  readonly pods: readonly Pod[];
  /** Only those of `pods` whose veth leads to the node, or to which a runtime promised one. */
  readonly onlyOfNode?: boolean;
  /** Pods of which only the addresses matter: who else has this one's? */
  readonly others?: readonly Pod[];
  /** Destinations for which the kernel's own route answers are recorded. */
  readonly destinations: readonly string[];
  /**
   * For a caller that judges the snapshot at once: rules are decoded when they are looked at. As JSON the snapshot is the
   * same, but takes longer to write.
   */
  readonly deferred?: boolean;
}

/** Reads everything once, and the counters a second time at the end. */
export function takeSnapshot(request: SnapshotRequest): Snapshot {
  const gaps = new Gaps();
  const node = request.node ?? NetworkNamespace.current();
  const takenAt = new Date().toISOString();
  try {
    const queries = request.destinations.map((destination) => ({ destination }));
    const deferred = request.deferred === true;
    const first = withFlows(
      node,
      readNamespace(node, { name: "node", role: "node", queries, deferred }, gaps)!,
      gaps,
    );
    const wired = request.onlyOfNode === true ? wiredTo(node, first) : undefined;
    const whole = request.pods.flatMap((pod) => readPod(pod, request, node, wired, gaps) ?? []);
    const interest = interesting(whole, first, request.destinations);
    const others = request.others ?? [];
    const asking =
      others.length <= FEW_PODS ||
      whole.some((pod) => isDoubtful(first, pod)) ||
      request.destinations.some((address) => isOnBridge(first, address));
    const pods = [
      ...whole,
      ...(asking ? readOthers(others, interest, node, wiredTo(node, first), gaps) : []),
    ];
    const asked = recordAnswers(node, first, podQueries(first, whole, request.destinations), "node", gaps);
    const nat = readNatRecords(node, gaps);
    const plugins = isOwn(node) ? readNetworkPlugins(gaps) : [];
    const promises = readPromises(node, gaps);
    return present({
      format: SNAPSHOT_FORMAT,
      version: SNAPSHOT_VERSION,
      wayout: VERSION,
      takenAt,
      kernelRelease: release(),
      node: readAgain(node, asked),
      pods: promises.size === 0 ? pods : pods.map((pod) => withPromise(pod, promises)),
      containers:
        request.onlyOfNode === true || request.others !== undefined
          ? containersOf([...request.pods, ...others])
          : undefined,
      files: readConfigFiles(gaps),
      networkPlugins: plugins.length === 0 ? undefined : plugins,
      missing: gaps.missing,
      wayoutState: nat.length === 0 ? undefined : { nat },
    });
  } finally {
    if (request.node === undefined) node.close();
  }
}

/** Container runtimes work for the namespace that we are in; a namespace that plays the node has none. */
function isOwn(node: NetworkNamespace): boolean {
  using own = NetworkNamespace.current();
  return own.inode === node.inode;
}

/** A runtime's result comes before our record: they are never about the same interface. */
function withPromise(pod: PodState, promises: ReadonlyMap<string, ExpectedInterface>): PodState {
  const paths = [pod.state?.path, ...pod.aliases].filter((path) => path !== undefined);
  const expected = pod.expected ?? paths.map((path) => promises.get(path)).find((one) => one !== undefined);
  return expected === undefined ? pod : { ...pod, expected };
}

function containersOf(pods: readonly Pod[]): string[] {
  const ids = pods.flatMap(({ containerIds, attachments }) => [
    ...containerIds,
    ...attachments.map((one) => one.containerId),
  ]);
  return [...new Set(ids)].sort();
}

function withFlows(node: NetworkNamespace, state: NamespaceState, gaps: Gaps): NamespaceState {
  const { conntrack } = state;
  if (conntrack === undefined) return state;
  const tracked = gaps.try("node", "tracked flows", () => readTrackedFlows(node, state));
  return { ...state, conntrack: { ...conntrack, ...tracked } };
}

type Belongs = NonNullable<ReadOptions["belongs"]>;

/**
 * Whether one of the links is a veth whose other end is this node's. What is attached to the node's own way out is no pod but
 * the outside, played by a namespace.
 */
function wiredTo(node: NetworkNamespace, state: NamespaceState): Belongs {
  const uplinks = new Set(
    state.routes.flatMap((route) =>
      isDefaultCidr(route.destination)
        ? [route.interface, ...(route.nextHops ?? []).map((hop) => hop.interface)]
        : [],
    ),
  );
  const byIndex = new Map(
    state.links.filter((link) => !uplinks.has(link.index)).map((link) => [link.index, link]),
  );
  return (route, links) => {
    const pairs = links.filter((link) => hostEndOf((index) => byIndex.get(index), {}, link) !== undefined);
    if (pairs.length === 0) return false;
    const nodeNamespaceId = route.namespaceId(node.fd);
    return pairs.some((link) => nodeNamespaceId !== undefined && link.linkNamespaceId === nodeNamespaceId);
  };
}

/** So many pods are asked for all their neighbours, so many others for their addresses. More are asked when something points at one of them. */
const FEW_PODS = 32;

/** Whether the address lies in the network of one of the node's bridges: a pod may have it. */
function isOnBridge({ links, addresses }: NamespaceState, address: string): boolean {
  const bridges = new Set(links.filter((link) => link.kind === "bridge").map((link) => link.index));
  return addresses.some(
    (one) =>
      bridges.has(one.interface) &&
      one.scope === "global" &&
      cidrContains(cidrOf(one.address, one.prefixLength), address),
  );
}

/** Whether another host may have the pod's address, or its gateway's: another MAC address, or no answer. */
function isDoubtful(node: NamespaceState, { state }: PodState): boolean {
  if (state === undefined) return false;
  const macs = new Set(state.links.map((link) => link.mac));
  const own = new Set(state.addresses.map((one) => one.address));
  const answered = node.neighbours.some(
    (one) => own.has(one.address) && (one.mac === undefined || !macs.has(one.mac)),
  );
  const gateways = state.routes.flatMap((route) => route.gateway ?? []);
  return answered || gateways.some((gateway) => !node.addresses.some((one) => one.address === gateway));
}

/** Addresses whose owner a check may ask for: the pods' own, their gateways, where they want to go, the node's gateways. */
function interesting(
  pods: readonly PodState[],
  node: NamespaceState,
  destinations: readonly string[],
): ReadonlySet<string> {
  const addresses = new Set(destinations);
  for (const { gateway, destination } of node.routes)
    if (gateway !== undefined && isDefaultCidr(destination)) addresses.add(gateway);
  for (const { state } of pods) {
    for (const { address, scope } of state?.addresses ?? []) if (scope === "global") addresses.add(address);
    for (const { gateway } of state?.routes ?? []) if (gateway !== undefined) addresses.add(gateway);
  }
  return addresses;
}

/** Undefined for a namespace that is no pod of this node. */
function readPod(
  pod: Pod,
  { destinations, pods, deferred = false }: SnapshotRequest,
  node: NetworkNamespace,
  wired: Belongs | undefined,
  gaps: Gaps,
): PodState | undefined {
  const head = headOf(pod);
  const promised = pod.attachments.length > 0;
  return inPod(pod, head, gaps, promised || wired === undefined, (namespace) => {
    const queries = destinations.map((destination) => ({ destination }));
    const belongs = promised ? undefined : wired;
    const onlyNextHops = pods.length > FEW_PODS;
    const state = readNamespace(
      namespace,
      present({
        name: pod.name,
        role: "pod",
        queries,
        deferred,
        onlyNextHops,
        node,
        belongs,
      }),
      gaps,
    );
    if (state === undefined) return undefined;
    const resolvConf = gaps.try(pod.name, "resolv.conf", () => readResolvConf(pod));
    // Where no line names an address the C library asks 127.0.0.1.
    const servers = resolvConf?.nameservers.filter((one) => isIp(one)) ?? [];
    const asksItself =
      resolvConf !== undefined && (servers.length === 0 || servers.some((one) => isLoopbackAddress(one)));
    const dnsListeners = asksItself
      ? gaps.try(pod.name, "listeners", () => readDnsListeners(namespace))
      : undefined;
    return {
      ...head,
      state,
      ...present({ resolvConf, dnsListeners }),
    };
  });
}

/** Who has an address of interest counts only when it is attached to this node: two nodes' pods may have the same. */
function readOthers(
  pods: readonly Pod[],
  interest: ReadonlySet<string>,
  node: NetworkNamespace,
  belongs: Belongs,
  gaps: Gaps,
): PodState[] {
  return pods.flatMap((pod) => {
    const head = headOf(pod);
    let elsewhere = false;
    const read = inPod(pod, head, gaps, false, (namespace) => {
      const state = readAddresses(namespace, pod.name, interest, node, belongs, gaps);
      elsewhere = state === undefined;
      return state === undefined ? undefined : { ...head, state };
    });
    return elsewhere ? [] : [read ?? head];
  });
}

/** @param expected whether it is worth a note when the namespace cannot be entered */
function inPod(
  pod: Pod,
  head: PodState,
  gaps: Gaps,
  expected: boolean,
  read: (namespace: NetworkNamespace) => PodState | undefined,
): PodState | undefined {
  try {
    using namespace = NetworkNamespace.open(pod.path);
    return read(namespace);
  } catch (error) {
    if (!expected) return undefined;
    gaps.note(pod.name, "namespace", error);
    return head;
  }
}

function headOf(pod: Pod): PodState {
  const [attachment] = pod.attachments;
  return present({
    name: pod.name,
    aliases: pod.aliases,
    source: pod.source,
    expected:
      attachment === undefined
        ? undefined
        : present({
            name: attachment.interface,
            addresses: attachment.addresses,
            gateways: attachment.gateways,
            mac: attachment.mac,
            network: attachment.network,
            masqueradedBy: attachment.masqueradedBy,
          }),
  });
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
      const host = hostEndOf((index) => byIndex.get(index), state, link);
      if (host === undefined) return [];
      const inLink = (host.master === undefined ? undefined : byIndex.get(host.master)) ?? host;
      const sources = state.addresses.filter((one) => one.interface === link.index && one.scope === "global");
      return sources.flatMap(({ address, family }) =>
        destinations
          .filter((destination) => familyOf(destination) === family)
          .map((destination) => ({ destination, source: address, iif: inLink.name })),
      );
    });
  });
}
