/** The live probe: one real packet, after the prediction, and echoes of several sizes when it came through. */
import { endText } from "../address/ip.ts";
import { largestSent, withSizes } from "../doctor/black-hole.ts";
import type { Diagnosis } from "../doctor/diagnose.ts";
import { withProbe, type ProbeResult } from "../doctor/probe.ts";
import { messageOf } from "../error.ts";
import { NetworkNamespace } from "../kernel/namespace.ts";
import type { PodState, Snapshot } from "../snapshot/snapshot.ts";
import { probeSizes } from "../trace/observe/size-probe.ts";
import { trace } from "../trace/trace.ts";

/** How long an echo may take after the last one that came back. */
const ECHO_PATIENCE_MS = 500;

/** The diagnosis of a pod together with what real packets did. */
export function probed(snapshot: Snapshot, podName: string, predicted: Diagnosis): Diagnosis {
  const result = sendOne(podName, predicted);
  const diagnosis = withProbe(predicted, result);
  const pod = snapshot.pods.find((one) => one.name === diagnosis.pod);
  const came = result.outcome === "answered" || result.outcome === "refused";
  return came && pod !== undefined ? sized(snapshot, pod, diagnosis) : diagnosis;
}

function sendOne(pod: string, { target }: Diagnosis): ProbeResult {
  const { address, port, protocol } = target;
  try {
    const { report } = trace({
      pod,
      destination: port === 0 ? address : endText(address, port),
      protocol: protocol === "icmpv6" ? "icmp" : protocol,
    });
    return report.stop === undefined
      ? { outcome: report.outcome, said: report.answer ?? report.outcome }
      : {
          outcome: "stopped",
          said: report.stop.reason,
          lastSeen: report.stop.lastSeen,
          code: report.stop.code,
        };
  } catch (error) {
    return { outcome: "not-sent", said: messageOf(error) };
  }
}

function sized(snapshot: Snapshot, pod: PodState, diagnosis: Diagnosis): Diagnosis {
  const { target } = diagnosis;
  const mtu = largestSent(snapshot, pod, target);
  if (mtu === undefined || pod.state?.path === undefined || !diagnosis.healthy) return diagnosis;
  try {
    using inside = NetworkNamespace.open(pod.state.path);
    return withSizes(snapshot, pod, diagnosis, probeSizes(inside, target.address, mtu, ECHO_PATIENCE_MS));
  } catch (error) {
    return { ...diagnosis, gaps: [...diagnosis.gaps, `large packets: ${messageOf(error)}`] };
  }
}
