/** One real packet, sent on request, and its steps played one after the other. */
import { signal } from "@preact/signals";
import type { TraceReport } from "../../trace/report.ts";
import { ask } from "./ask.ts";
import { Keeper } from "./kept.ts";

export const trace = new Keeper<TraceReport>();
/** How many of the steps have been shown. */
export const shown = signal(0);

const STEP_MS = 420;
let playing: ReturnType<typeof setInterval> | undefined;

export const wantsStillness = (): boolean => matchMedia("(prefers-reduced-motion: reduce)").matches;

export async function sendPacket(pod: string, to: string, protocol: string): Promise<void> {
  stopPlaying();
  shown.value = 0;
  await trace.ask(
    (signal) =>
      ask(`/v1/pods/${encodeURIComponent(pod)}/trace`, {
        method: "POST",
        parameters: { to, proto: protocol },
        signal,
      }),
    true,
  );
  play();
}

/** From the first step on; at once for those who want no movement. */
export function play(): void {
  const report = trace.state.peek().value;
  if (report === undefined) return;
  stopPlaying();
  const last = report.steps.length;
  if (wantsStillness()) {
    shown.value = last;
    return;
  }
  shown.value = 1;
  playing = setInterval(() => {
    if (shown.peek() >= last) return stopPlaying();
    shown.value++;
  }, STEP_MS);
}

function stopPlaying(): void {
  clearInterval(playing);
}

export function forgetTrace(): void {
  stopPlaying();
  shown.value = 0;
  trace.forget();
}
