/** The live probe: one real packet, after the prediction, and pings of several sizes when it came through. */
import { endText } from "../address/ip.ts";
import type { CauseCode } from "../causes/catalogue/all.ts";
import { wayOut, withNodeSizes, withSizes } from "../doctor/black-hole.ts";
import { diagnose, type Diagnosis } from "../doctor/diagnose.ts";
import { withSilentNextHop } from "../doctor/silent-next-hop.ts";
import { commandIn } from "../text/command.ts";
import { deviceOf, withProbe, withRequest, type ProbeResult, type SeenStop } from "../doctor/probe.ts";
import { messageOf } from "../error.ts";
import { ERRNO, errnoText } from "../linux/errno.ts";
import { NetworkNamespace } from "../kernel/namespace.ts";
import { readSysctl } from "../kernel/sysctl.ts";
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import type { PodState, Snapshot } from "../snapshot/snapshot.ts";
import type { TraceStop, TranslationReport } from "../trace/report.ts";
import { probeSizes } from "../trace/observe/size-probe.ts";
import { trace } from "../trace/trace.ts";
import { present } from "../present.ts";

/** How long an answer may take after the last one that came back. */
const PING_TIMEOUT_MS = 500;

/** The diagnosis of a pod together with what real packets did. */
export function probed(snapshot: Snapshot, podName: string, predicted: Diagnosis): Diagnosis {
  const result = sendOne(snapshot, podName, predicted);
  const diagnosis = withProbe(learned(snapshot, podName, predicted, result), result);
  const pod = snapshot.pods.find((one) => one.name === diagnosis.pod);
  if (result.outcome !== "answered" && result.outcome !== "refused") return diagnosis;
  const asked = result.outcome === "answered" ? requested(snapshot, podName, diagnosis) : diagnosis;
  return pod === undefined ? asked : sized(snapshot, pod, asked);
}

/** Where a rule looks at what packets carry, a connection that opens proves nothing: a request over it does. */
function requested(snapshot: Snapshot, podName: string, diagnosis: Diagnosis): Diagnosis {
  const looks = diagnosis.findings.some(({ code }) => code === "filter-by-content");
  if (!looks || !diagnosis.healthy || diagnosis.target.protocol !== "tcp") return diagnosis;
  const result = sendOne(snapshot, podName, diagnosis, { http: true });
  return result.outcome === "stopped" ? withRequest(diagnosis, result) : diagnosis;
}

/** The neighbour table before the packet did not know that the next hop keeps silent: with that, the tables say more. */
function learned(snapshot: Snapshot, podName: string, predicted: Diagnosis, result: ProbeResult): Diagnosis {
  const pod = snapshot.pods.find((one) => one.name === podName);
  if (pod === undefined || result.outcome !== "stopped") return predicted;
  const known = TELLS_LITTLE.has(result.code)
    ? lookedAtAgain(snapshot, pod)
    : result.code === "uplink-gateway-unresolved"
      ? withSilentNextHop(snapshot, pod, predicted.target, deviceOf(result))
      : undefined;
  return known === undefined ? predicted : diagnose(known.snapshot, known.pod, predicted.target);
}

/** Where it ended, and not why: tables that the packet has changed may say more. */
const TELLS_LITTLE: ReadonlySet<CauseCode> = new Set<CauseCode>([
  "stopped-elsewhere",
  "kernel-drops",
  "pod-neighbour-unresolved",
]);

interface Known {
  readonly snapshot: Snapshot;
  readonly pod: PodState;
}

/**
 * The tables that the packet itself has changed; and what decides nothing on most nodes, and so is read only when a packet
 * was lost: what the bridges know of their ports, and whether the pod may answer ARP.
 */
function lookedAtAgain(snapshot: Snapshot, pod: PodState): Known | undefined {
  const name = "net.ipv4.conf.all.arp_ignore";
  try {
    using onNode =
      snapshot.node.path === undefined
        ? NetworkNamespace.current()
        : NetworkNamespace.open(snapshot.node.path);
    using route = Rtnetlink.open(onNode);
    // Who was asked while the packet waited, and has not answered, will not do so later.
    const neighbours = route
      .neighbours()
      .map((one) => (one.state === "incomplete" ? { ...one, state: "failed" as const } : one));
    const node = { ...snapshot.node, neighbours, forwarding: route.forwardingDatabase() };
    if (pod.state?.path === undefined) return { snapshot: { ...snapshot, node }, pod };
    using inside = NetworkNamespace.open(pod.state.path);
    const value = readSysctl(inside, name);
    const sysctls = { ...pod.state.sysctls, ...(value === undefined ? {} : { [name]: value }) };
    const again = { ...pod, state: { ...pod.state, sysctls } };
    const pods = snapshot.pods.map((one) => (one === pod ? again : one));
    return { snapshot: { ...snapshot, node, pods }, pod: again };
  } catch {
    return undefined;
  }
}

function sendOne(
  snapshot: Snapshot,
  pod: string,
  { target }: Diagnosis,
  options: { readonly http?: true } = {},
): ProbeResult {
  const { address, port, protocol } = target;
  try {
    const { report } = trace({
      pod,
      destination: port === 0 ? address : endText(address, port),
      protocol: protocol === "icmpv6" ? "icmp" : protocol,
      ...options,
    });
    if (report.stop !== undefined) return { outcome: "stopped", ...seenStop(report.stop, snapshot, pod) };
    const { destinationTranslation: redirected } = report;
    return present({
      outcome: report.outcome === "refused" ? "refused" : "answered",
      said: report.answer ?? report.outcome,
      isReset: report.answer === errnoText(ERRNO.ECONNRESET) ? true : undefined,
      redirected: redirected === undefined ? undefined : redirection(redirected),
    });
  } catch (error) {
    return { outcome: "not-sent", said: messageOf(error) };
  }
}

function redirection({ after, rule }: TranslationReport): { to: string; by?: string } {
  if (rule === undefined) return { to: after };
  const whose = rule.owner === undefined ? "" : `${rule.owner}'s `;
  return { to: after, by: `${whose}“${rule.text}” in ${rule.family} ${rule.table} ${rule.chain}` };
}

/** What was seen, with its commands as they must be typed here. */
function seenStop(stop: TraceStop, snapshot: Snapshot, podName: string): SeenStop {
  const podPath = snapshot.pods.find((one) => one.name === podName)?.state?.path;
  const { code, reason, lastSeen, rule, owner, todo, fix, evidence } = stop;
  return present({
    code,
    said: reason,
    lastSeen,
    rule:
      rule?.handle === undefined
        ? undefined
        : `table ${rule.family} ${rule.table} chain ${rule.chain} handle ${rule.handle}`,
    owner,
    todo,
    fix: (fix ?? []).flatMap(({ place, command }) => {
      const line = commandIn(place === "pod" ? podPath : snapshot.node.path, command);
      return line === undefined ? [] : [{ command: line }];
    }),
    evidence: evidence.flatMap(({ source, lines }) => lines.map((value) => ({ source, value }))),
  });
}

function sized(snapshot: Snapshot, pod: PodState, diagnosis: Diagnosis): Diagnosis {
  const { target } = diagnosis;
  const way = wayOut(snapshot, pod, target);
  if (way === undefined || pod.state?.path === undefined || !diagnosis.healthy) return diagnosis;
  try {
    using inside = NetworkNamespace.open(pod.state.path);
    using node =
      snapshot.node.path === undefined
        ? NetworkNamespace.current()
        : NetworkNamespace.open(snapshot.node.path);
    const probe = probeSizes({
      pod: inside,
      destination: target.address,
      mtu: way.mtu,
      timeoutMs: PING_TIMEOUT_MS,
      uplink: { node, name: way.uplink },
    });
    if (probe.passed.length > 0) return withSizes(snapshot, pod, diagnosis, probe);
    // A filter that drops the pod's pings may drop what routers say as well: the node's own way is the same.
    const ofNode = probeSizes({
      pod: node,
      destination: target.address,
      mtu: way.mtu,
      timeoutMs: PING_TIMEOUT_MS,
    });
    return withNodeSizes(snapshot, pod, diagnosis, ofNode);
  } catch (error) {
    return { ...diagnosis, gaps: [...diagnosis.gaps, `large packets: ${messageOf(error)}`] };
  }
}
