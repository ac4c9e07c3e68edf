/**
 * Room `trace/`: one real exchange of a pod, followed through the kernel: observe/ collects, judge/ concludes, show/
 * draws. Synchronous: it returns when the exchange is over.
 *
 * In: a pod, a destination.
 * Out: a TraceReport: nine steps with evidence, and where it ended, why, and what to do.
 * Touches: it sends one exchange from inside the pod, listens on interfaces, and holds a short-lived nf_tables table;
 *   nothing stays.
 */
import { showWholeWay } from "../nat/backends/at-links.ts";
import { ipFamily, isIp, type IpFamily } from "../address/ip.ts";
import { codeOf, messageOf, WayoutError } from "../error.ts";
import { SystemError } from "../linux/errno.ts";
import { NetworkNamespace } from "../kernel/namespace.ts";
import { requestTimestamps } from "../kernel/packet-socket.ts";
import { findPod } from "../pods/find.ts";
import { listPods } from "../pods/inventory.ts";
import { podAddresses } from "../pods/pod-addresses.ts";
import type { Pod } from "../pods/pod.ts";
import { openNodeOf } from "../pods/wiring.ts";
import { analyse } from "./judge/analyse.ts";
import { collect } from "./observe/collect.ts";
import { parseTarget, type TraceTarget } from "./observe/destination.ts";
import type { FlowPattern, PathSurvey, SeenPacket, TraceEvidence } from "./evidence.ts";
import { Exchange } from "./observe/exchange.ts";
import type { TraceReport } from "./report.ts";
import { resolve, type Resolution } from "./observe/resolver.ts";
import { sourceOf, surveyNode, surveyPod, type RoutedPacket } from "./observe/survey.ts";
import { present } from "../present.ts";

export interface TraceRequest {
  /** As a person names it; see findPod. */
  readonly pod: string;
  /** `HOST`, `HOST:PORT`, `http://…`; see parseTarget. */
  readonly destination: string;
  readonly protocol?: string;
  readonly port?: string;
  readonly http?: boolean;
  /** Only this family for a name that has both. */
  readonly family?: IpFamily;
  /** How long to wait for an answer. */
  readonly timeoutMs?: number;
  /** Payload of a UDP datagram or an echo request, which is sent with DF set. */
  readonly sizeBytes?: number;
  /** Send nothing: follow the traffic that flows by itself. */
  readonly listen?: boolean;
}

export interface TraceResult {
  readonly report: TraceReport;
  /** The captured packets, for a pcapng file. */
  readonly packets: readonly SeenPacket[];
}

/** A TCP connection that was not answered tries again after a second: one retry may still come through. */
export const DEFAULT_TIMEOUT_MS = 1_500;
export const DEFAULT_LISTEN_MS = 10_000;
/** What else a trace does than wait for answers takes less. */
const LONGEST_BESIDE_MS = 60_000;

/**
 * Traces. What stops the packet is a result, not an error.
 * @throws WayoutError unknown-pod, bad-destination, name-not-resolved, pod-vanished, no-privilege, nothing-flows
 */
export function trace(request: TraceRequest): TraceResult {
  const target = parseTarget(request.destination, { ...request, anyPort: request.listen === true });
  const pod = findPod(request.pod);
  using _timestamps = requestTimestamps();
  using namespace = openPod(pod);
  try {
    return traceIn(pod, namespace, target, request);
  } catch (error) {
    throw explained(error, pod);
  }
}

function openPod(pod: Pod): NetworkNamespace {
  try {
    return NetworkNamespace.open(pod.path);
  } catch (error) {
    throw explained(error, pod);
  }
}

function traceIn(
  pod: Pod,
  namespace: NetworkNamespace,
  target: TraceTarget,
  request: TraceRequest,
): TraceResult {
  const timeoutMs = request.timeoutMs ?? (request.listen === true ? DEFAULT_LISTEN_MS : DEFAULT_TIMEOUT_MS);
  const resolution: Pick<Resolution, "address" | "nameserver"> = isIp(target.host)
    ? { address: target.host }
    : resolve(pod, namespace, target.host, request.family, timeoutMs);
  const family = ipFamily(resolution.address);
  const asked: RoutedPacket = present({
    family,
    protocol: target.protocol,
    destination: resolution.address,
    destinationPort: target.port,
  });
  const podSide = surveyPod(pod, namespace, asked);
  const source = sourceOf(podSide, family);
  const packet = source === undefined ? asked : { ...asked, source };
  using node = podSide.link === undefined ? undefined : tryOpenNode(pod, namespace, podSide.link.name);
  const survey: PathSurvey = present({
    pod: podSide,
    node: node === undefined ? undefined : surveyNode(node, { namespace, side: podSide }, packet),
  });
  // What goes past captures and rules is proven by nobody.
  using _wholeWay = node === undefined ? undefined : showWholeWay(node, timeoutMs + LONGEST_BESIDE_MS);
  const tracing: Tracing = { pod: namespace, node, survey, packet, timeoutMs };
  const destination = present({
    host: target.host,
    address: resolution.address,
    protocol: target.protocol,
    port: target.port,
    nameserver: resolution.nameserver,
  });
  const evidence = request.listen === true ? follow(tracing) : send(tracing, target, request.sizeBytes);
  const peer = peerOf(evidence, pod);
  const whole = peer === undefined ? evidence : { ...evidence, peer };
  return { report: analyse(whole, destination), packets: evidence.packets };
}

/** Asked only for what stays on the node's own networks: each pod's namespace must be entered for its addresses. */
function peerOf({ flow, survey, isInbound }: TraceEvidence, pod: Pod): string | undefined {
  if (isInbound === true) return undefined;
  const destination = flow.outside?.destination ?? flow.destination;
  const route = survey.node?.route;
  const isRoutedOnLink = route?.reachable === true && route.route.gateway === undefined;
  const isBeside = survey.pod.nextHop === flow.destination;
  if (destination === flow.source || (!isRoutedOnLink && !isBeside)) return undefined;
  return listPods().find((one) => one.inode !== pod.inode && podAddresses(one).includes(destination))?.name;
}

/** The other end of a pod's interface may be out of sight (macvlan, another machine's tunnel): half a trace, then. */
function tryOpenNode(
  pod: Pod,
  namespace: NetworkNamespace,
  interfaceName: string,
): NetworkNamespace | undefined {
  try {
    return openNodeOf(pod, namespace, interfaceName);
  } catch (error) {
    if (error instanceof WayoutError && error.code === "pod-without-uplink") return undefined;
    throw error;
  }
}

/** From where what is traced, what the kernel says about its way, and how long it may take. */
interface Tracing {
  readonly pod: NetworkNamespace;
  readonly node: NetworkNamespace | undefined;
  readonly survey: PathSurvey;
  readonly packet: RoutedPacket;
  readonly timeoutMs: number;
}

function send(tracing: Tracing, target: TraceTarget, sizeBytes: number | undefined): TraceEvidence {
  const { packet, ...rest } = tracing;
  const { family, protocol, destination } = packet;
  using exchange = Exchange.open(
    tracing.pod,
    present({
      protocol,
      family,
      destination,
      port: target.port,
      http: target.httpPath === undefined ? undefined : { host: target.host, path: target.httpPath },
      sizeBytes,
    }),
  );
  const flow: FlowPattern = present({
    family,
    protocol,
    source: packet.source ?? unspecified(family),
    destination,
    sourcePort: exchange.localPort,
    destinationPort: target.port,
  });
  return collect({ ...rest, flow, exchange });
}

function follow({ packet, ...rest }: Tracing): TraceEvidence {
  const { family, protocol, destination, destinationPort } = packet;
  const flow = { family, protocol, destination, source: packet.source ?? unspecified(family) };
  return collect({ ...rest, flow, ...present({ port: destinationPort }) });
}

function unspecified(family: IpFamily): string {
  return family === 4 ? "0.0.0.0" : "::";
}

/** Errors of the kernel that a person can do something about, in their terms. */
function explained(error: unknown, pod: Pod): unknown {
  if (error instanceof WayoutError) return error;
  const code = codeOf(error) ?? "";
  if (code === "EPERM" || code === "EACCES") {
    return new WayoutError({
      code: "no-privilege",
      kind: "machine",
      doing: `tracing from ${pod.name}`,
      said: messageOf(error),
      todo: "Run it as root: it enters the pod's namespace and listens on its interfaces.",
      cause: error,
    });
  }
  if (code === "ENOENT" || (error instanceof SystemError && code === "EINVAL")) {
    return new WayoutError({
      code: "pod-vanished",
      kind: "broken",
      doing: `tracing from ${pod.name}`,
      said: `its namespace ${pod.path} is gone (${messageOf(error)})`,
      cause: error,
    });
  }
  return error;
}
