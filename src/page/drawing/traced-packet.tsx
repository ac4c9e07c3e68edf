/** The packet of a trace on the picture: where it is at the step that is shown. */
import type { JSX } from "preact";
import type { PictureLayout } from "../layout/picture-layout.ts";
import { BEFORE } from "../layout/ways.ts";
import { stageOfTraceStep } from "../layout/stages.ts";
import { shown, trace } from "../state/tracing.ts";
import { chosenPod } from "../state/address-bar.ts";
import { Shape } from "./parts.tsx";

export function TracedPacket({ layout }: { readonly layout: PictureLayout }): JSX.Element | null {
  const report = trace.state.value.value;
  if (report === undefined || report.pod !== chosenPod.value || shown.value === 0) return null;
  const until = report.stop?.step ?? report.steps.length;
  const number = Math.min(shown.value, until);
  const stage = stageOfTraceStep(number);
  const at = layout.way.get(stage);
  if (at === undefined) return null;
  const ended = report.stop !== undefined && number === until;
  // On the mark of the box that lets nothing through.
  const before = ended && !layout.narrow && stage !== "pod" && stage !== "outside" ? BEFORE : 0;
  return (
    <g
      class={`packet ${ended ? "ended" : ""}`}
      style={{ transform: `translate(${at.x - before}px, ${at.y}px)` }}
      aria-hidden="true"
    >
      {ended ? (
        <g transform="translate(-12 -12) scale(1.5)">
          <Shape sign="bad" />
        </g>
      ) : (
        <>
          <rect x="-13" y="-9" width="26" height="18" rx="4" />
          <path d="m-9-5 9 6 9-6" />
        </>
      )}
    </g>
  );
}
