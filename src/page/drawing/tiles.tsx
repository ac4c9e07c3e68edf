/** Many pods in one box, a sign for each: two paths, however many they are. */
import type { JSX } from "preact";
import type { PicturePod } from "../../agent/picture/picture.ts";
import { tileAt, tilePlace } from "../layout/picture-layout.ts";
import { choosePod } from "../state/keys.ts";
import { SIGN_PATHS, type Sign } from "./parts.tsx";
import { steady } from "./steady.ts";

interface TilesProperties {
  readonly pods: readonly PicturePod[];
  readonly sign: Sign;
  /** Of the box. */
  readonly width: number;
}

export const Tiles = steady(({ pods, sign, width }: TilesProperties): JSX.Element => {
  const { ground, stroke } = SIGN_PATHS[sign];
  const places = pods.map((_, index) => tilePlace(index, pods.length, width));
  const { size = 1 } = places[0] ?? {};
  const scale = size / 16;
  const all = (path: string): string =>
    places.map(({ x, y }) => `M${x / scale} ${y / scale}${path}`).join("");
  const podAt = (event: MouseEvent): PicturePod | undefined => {
    const box = (event.currentTarget as SVGGElement).parentElement?.getBoundingClientRect();
    if (box === undefined) return undefined;
    return pods[tileAt(event.clientX - box.x, event.clientY - box.y, pods.length, width) ?? -1];
  };
  return (
    <g
      aria-hidden="true"
      class="tiles"
      onClick={(event) => {
        const pod = podAt(event);
        if (pod === undefined) return;
        event.stopPropagation();
        choosePod(pod.name);
      }}
      onMouseMove={(event) => {
        event.currentTarget.querySelector("title")!.textContent = podAt(event)?.name ?? "";
      }}
    >
      <title />
      <g class={`mark ${sign}`} transform={`scale(${scale})`}>
        <path class="ground" d={all(ground)} />
        <path class="stroke" d={all(stroke)} />
      </g>
    </g>
  );
});
