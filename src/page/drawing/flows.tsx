/**
 * Connections on the picture, each a dot that goes its way. They lie over the drawing as elements of their own whose
 * movement is handed to the browser once: no script runs while they move, and nothing else is painted again.
 */
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { translationText } from "../layout/flow-text.ts";
import type { Point } from "../layout/geometry.ts";
import type { Leg, MovingFlow } from "../layout/ways.ts";
import { adjust, addressBar } from "../state/address-bar.ts";
import { wantsStillness } from "../state/tracing.ts";

/** A packet's way to its destination takes so long to watch. */
const LAP_MS = 3200;

export function Flows({ flows }: { readonly flows: readonly MovingFlow[] }): JSX.Element {
  return (
    <>
      {flows.map((one) => (
        <Flow key={one.flow.key} moving={one} />
      ))}
    </>
  );
}

function Flow({ moving }: { readonly moving: MovingFlow }): JSX.Element {
  const { flow, legs, moves, x, y } = moving;
  const own = useRef<HTMLButtonElement>(null);
  const still = !moves || wantsStillness();
  const way = still ? "" : JSON.stringify(legs);
  useEffect(() => {
    if (way === "" || own.current === null) return undefined;
    const movement = own.current.animate(keyframes(legs), { duration: LAP_MS, iterations: Infinity });
    // Each has its own place on the way, and keeps it when the picture is drawn anew.
    movement.startTime = -((flow.record.id % 100) / 100) * LAP_MS;
    return () => movement.cancel();
  }, [way]);
  const chosen = addressBar.value.of["flow"] === flow.key;
  return (
    <button
      ref={own}
      type="button"
      class={`flow ${moves ? "moving" : "over"} ${chosen ? "chosen" : ""}`}
      style={{ transform: placed({ x, y }) }}
      data-item
      tabIndex={-1}
      aria-label={translationText(flow.record)}
      onClick={() => adjust({ flow: flow.key })}
    />
  );
}

function placed({ x, y }: Point): string {
  return `translate(${x}px, ${y}px)`;
}

/** As fast everywhere, however far apart the points are; behind a box it is not seen. */
function keyframes(legs: readonly Leg[]): Keyframe[] {
  const frames: { readonly transform: string; readonly opacity: number; readonly far: number }[] = [];
  let far = 0;
  for (const { points, behind } of legs) {
    for (const [index, point] of points.entries()) {
      const before = points[index - 1] ?? point;
      far += Math.hypot(point.x - before.x, point.y - before.y);
      frames.push({ transform: placed(point), opacity: behind ? 0 : 1, far });
    }
  }
  return frames.map(({ far: at, ...look }) => ({ ...look, offset: far === 0 ? 0 : at / far }));
}
