/** The live probe: one real packet, after the prediction. */
import type { Diagnosis } from "../doctor/diagnose.ts";
import { withProbe, type ProbeResult } from "../doctor/probe.ts";
import { messageOf } from "../error.ts";
import { trace } from "../trace/trace.ts";
import type { DoctorOptions } from "./doctor.ts";

/** The diagnosis of one pod together with what a real packet did; unchanged when nothing was to be sent. */
export function probed(
  diagnoses: readonly Diagnosis[],
  podName: string | undefined,
  options: DoctorOptions,
): readonly Diagnosis[] {
  const [only] = diagnoses;
  if (podName === undefined || only === undefined || options.to === undefined) return diagnoses;
  if (!options.probe || options.snapshot !== undefined) return diagnoses;
  return [withProbe(only, sendOne(podName, only))];
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
