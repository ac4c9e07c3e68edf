/** The live probe: one real packet, after the prediction. */
import type { Diagnosis } from "../doctor/diagnose.ts";
import { withProbe, type ProbeResult } from "../doctor/probe.ts";
import { messageOf } from "../error.ts";
import { trace } from "../trace/trace.ts";

/** The diagnosis of a pod together with what a real packet did. */
export function probed(pod: string, diagnosis: Diagnosis): Diagnosis {
  return withProbe(diagnosis, sendOne(pod, diagnosis));
}

function sendOne(pod: string, { target }: Diagnosis): ProbeResult {
  const { address, port, protocol } = target;
  const host = address.includes(":") ? `[${address}]` : address;
  try {
    const { report } = trace({
      pod,
      destination: port === 0 ? address : `${host}:${port}`,
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
