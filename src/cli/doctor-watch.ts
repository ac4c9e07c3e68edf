/** `doctor --watch` on a terminal or as JSON lines; ends with Ctrl-C. */
import type { Transition } from "../doctor/transitions.ts";
import type { ExaminationRequest } from "../examination/examine.ts";
import { watch } from "../examination/watch.ts";
import { manyText } from "./doctor-report.ts";
import { Interruption } from "./interruption.ts";
import { printJsonLine, tell } from "./output.ts";
import { style } from "./style.ts";

export async function showWatch(request: ExaminationRequest, json: boolean): Promise<void> {
  using stop = new Interruption();
  for await (const event of watch(request, stop.signal)) {
    const at = new Date();
    if (event.kind === "began") {
      const { diagnoses } = event.examination;
      if (json) printJsonLine({ at: at.toISOString(), pods: diagnoses });
      else tell(manyText, diagnoses);
    } else if (json) printJsonLine({ at: at.toISOString(), ...event.transition });
    else tell(changeText, event.transition);
  }
}

function changeText({ kind, pod, text }: Transition): string {
  const mark = {
    broken: style.bad("✗"),
    warned: style.warn("!"),
    mended: style.good("✓"),
    gone: "–",
    came: "+",
  }[kind];
  // Answers begin with the pod's name already.
  const said = text.startsWith(`${pod} `) ? text.slice(pod.length + 1) : text;
  return `${style.quiet(new Date().toTimeString().slice(0, 8))} ${mark} ${style.strong(pod)} ${said}\n`;
}
