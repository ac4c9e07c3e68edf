/** A curve over the last hour. What it shows stands as a sentence beside it, and as a table for who does not see it. */
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type uPlot from "uplot";
import { clock, grouped } from "./parts.tsx";

export interface Point {
  /** Seconds since the epoch. */
  readonly at: number;
  readonly value: number;
}

interface Props {
  readonly title: string;
  readonly points: readonly Point[];
  readonly bars?: boolean;
  /** The sentence that the curve comes to. */
  readonly comesTo: string;
}

const HEIGHT = 180;
/** Rows of the table that stands for the curve. */
const MOST_TOLD = 12;

export function Chart({ title, points, bars, comesTo }: Props): JSX.Element {
  const frame = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(undefined);
  const latest = useRef(points);
  latest.current = points;
  useEffect(() => {
    const own = frame.current!;
    const draw = (): void => {
      plot.current?.destroy();
      plot.current = undefined;
      void drawn(own, bars === true, () => latest.current).then((made) => (plot.current = made));
    };
    draw();
    const resized = new ResizeObserver(() =>
      plot.current?.setSize({ width: own.clientWidth, height: HEIGHT }),
    );
    resized.observe(own);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", draw);
    return () => {
      resized.disconnect();
      dark.removeEventListener("change", draw);
      plot.current?.destroy();
    };
  }, []);
  useEffect(() => plot.current?.setData(dataOf(points)), [points]);
  const told = points.filter((_, index) => index % Math.ceil(points.length / MOST_TOLD) === 0);
  return (
    <figure class="chart">
      <figcaption>
        <h3>{title}</h3>
        <p>{comesTo}</p>
      </figcaption>
      <div ref={frame} aria-hidden="true" />
      <table class="unseen">
        <caption>{title}</caption>
        <tbody>
          {told.map(({ at, value }) => (
            <tr key={at}>
              <th scope="row">{clock(new Date(at * 1000).toISOString())}</th>
              <td>{value}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </figure>
  );
}

type Plot = typeof uPlot;

/** Only who looks at curves waits for what draws them. */
let library: Promise<Plot> | undefined;

function plotLibrary(): Promise<Plot> {
  return (library ??= import("/plot.js").then(({ default: plot }) => plot));
}

/** undefined when there is no place for it any more. */
async function drawn(
  own: HTMLElement,
  bars: boolean,
  points: () => readonly Point[],
): Promise<uPlot | undefined> {
  const Drawing = await plotLibrary();
  if (!own.isConnected || own.querySelector(".uplot") !== null) return undefined;
  return new Drawing(optionsOf(own, bars, Drawing), dataOf(points()), own);
}

function dataOf(points: readonly Point[]): uPlot.AlignedData {
  return [points.map(({ at }) => at), points.map(({ value }) => value)];
}

/** Colours are the page's own. */
function optionsOf(own: HTMLElement, bars: boolean, { paths }: Plot): uPlot.Options {
  const style = getComputedStyle(own);
  const colour = (name: string): string => style.getPropertyValue(name).trim();
  const axis = {
    stroke: colour("--ink-quiet"),
    font: `12px ${style.fontFamily}`,
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { show: false },
  };
  return {
    width: own.clientWidth,
    height: HEIGHT,
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false } },
    scales: {
      x: { range: (_, __, max) => [max - 3600, max] },
      y: { range: (_, __, max) => [0, Math.max(4, Math.ceil(max * 1.15))] },
    },
    axes: [
      {
        ...axis,
        size: 28,
        space: 80,
        values: (_, ticks) => ticks.map((at) => clock(new Date(at * 1000).toISOString()).slice(0, 5)),
      },
      {
        ...axis,
        size: 58,
        values: (_, ticks) => ticks.map((value) => (Number.isInteger(value) ? grouped(value) : "")),
      },
    ],
    series: [
      {},
      {
        stroke: colour("--accent"),
        fill: colour(bars ? "--accent" : "--accent-soft"),
        width: 2,
        points: { show: false },
        ...(bars ? { paths: paths.bars!({ size: [0.9, 8], align: 1 }), width: 0 } : {}),
      },
    ],
  };
}
