/** The live probe: one real packet, after the prediction, and pings of several sizes when it came through. */
import { endText } from "../address/ip.ts";
import { wayOut, withSizes } from "../doctor/black-hole.ts";
import { diagnose, type Diagnosis } from "../doctor/diagnose.ts";
import { withSilentNextHop } from "../doctor/silent-next-hop.ts";
import { commandIn } from "../text/command.ts";
import { withProbe, type ProbeResult, type SeenStop } from "../doctor/probe.ts";
import { messageOf } from "../error.ts";
import { NetworkNamespace } from "../kernel/namespace.ts";
import type { PodState, Snapshot } from "../snapshot/snapshot.ts";
import type { TraceStop, TranslationReport } from "../trace/report.ts";
import { probeSizes } from "../trace/observe/size-probe.ts";
import { trace } from "../trace/trace.ts";

/** How long an answer may take after the last one that came back. */
const PING_TIMEOUT_MS = 500;

/** The diagnosis of a pod together with what real packets did. */
export function probed(snapshot: Snapshot, podName: string, predicted: Diagnosis): Diagnosis {
  const result = sendOne(snapshot, podName, predicted);
  const diagnosis = withProbe(learned(snapshot, podName, predicted, result), result);
  const pod = snapshot.pods.find((one) => one.name === diagnosis.pod);
  const came = result.outcome === "answered" || result.outcome === "refused";
  return came && pod !== undefined ? sized(snapshot, pod, diagnosis) : diagnosis;
}

/** The neighbour table before the packet did not know that the next hop keeps silent: with that, the tables say more. */
function learned(snapshot: Snapshot, podName: string, predicted: Diagnosis, result: ProbeResult): Diagnosis {
  const pod = snapshot.pods.find((one) => one.name === podName);
  if (pod === undefined || result.outcome !== "stopped" || result.code !== "uplink-gateway-unresolved")
    return predicted;
  const known = withSilentNextHop(snapshot, pod, predicted.target);
  return known === undefined ? predicted : diagnose(known.snapshot, known.pod, predicted.target);
}

function sendOne(snapshot: Snapshot, pod: string, { target }: Diagnosis): ProbeResult {
  const { address, port, protocol } = target;
  try {
    const { report } = trace({
      pod,
      destination: port === 0 ? address : endText(address, port),
      protocol: protocol === "icmpv6" ? "icmp" : protocol,
    });
    if (report.stop !== undefined) return { outcome: "stopped", ...seenStop(report.stop, snapshot, pod) };
    const { destinationTranslation: redirected } = report;
    return {
      outcome: report.outcome === "refused" ? "refused" : "answered",
      said: report.answer ?? report.outcome,
      ...(redirected === undefined ? {} : { redirected: redirection(redirected) }),
    };
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
  return {
    code,
    said: reason,
    lastSeen,
    ...(rule?.handle === undefined
      ? {}
      : { rule: `table ${rule.family} ${rule.table} chain ${rule.chain} handle ${rule.handle}` }),
    ...(owner === undefined ? {} : { owner }),
    ...(todo === undefined ? {} : { todo }),
    fix: (fix ?? []).flatMap(({ place, command }) => {
      const line = commandIn(place === "pod" ? podPath : snapshot.node.path, command);
      return line === undefined ? [] : [{ command: line }];
    }),
    evidence: evidence.flatMap(({ source, lines }) => lines.map((value) => ({ source, value }))),
  };
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
    return withSizes(snapshot, pod, diagnosis, probe);
  } catch (error) {
    return { ...diagnosis, gaps: [...diagnosis.gaps, `large packets: ${messageOf(error)}`] };
  }
}
