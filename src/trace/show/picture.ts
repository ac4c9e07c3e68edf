/** The picture of a trace as SVG: the stations, the packet's way out above them, the answer's way back below. Pure. */
import { visible } from "../../text/visible.ts";
import type { Station, StationKind, Sighting, TraceReport } from "../report.ts";

const WIDTH = 1120;
const HEIGHT = 330;
const MARGIN = 90;
const STATION = { top: 134, height: 74, width: 122 };
const OUT_LANE = 96;
const BACK_LANE = 246;

/** Text for HTML and SVG; of what nobody would see in it, what it is. */
export function escapeText(text: string): string {
  return visible(text)
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;")
    .replaceAll("'", "&#39;");
}

/** `31 µs`, `1.25 ms`. */
export function durationText(us: number): string {
  if (us < 1000) return `${Math.round(us)} µs`;
  return us < 1_000_000 ? `${(us / 1000).toFixed(2)} ms` : `${(us / 1_000_000).toFixed(1)} s`;
}

/** One `<svg>` element. Its colours are CSS variables of the page. */
export function pictureOf(report: TraceReport): string {
  const stations = new Stations(report.path);
  const legs = legsOf(report);
  const drawn = legs.map((sightings, index) => legOf(report, stations, sightings, index === legs.length - 1));
  return [
    `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="The packet's way from ${escapeText(report.pod)} to ${escapeText(report.destination.address)}">`,
    stations.nodeFrame(),
    ...drawn.map((leg) => leg.svg),
    ...report.path.map((place) => stations.station(place)),
    ...drawn.map((leg) => leg.marks),
    movingPacket(drawn.map((leg) => leg.points).flat(), report),
    "</svg>",
  ].join("\n");
}

// ── Stations ─────────────────────────────────────────────────────────────────────────────────────────────────────

const WORDS: Readonly<Record<StationKind, string>> = {
  pod: "pod",
  veth: "veth",
  bridge: "bridge",
  node: "routing · NAT",
  uplink: "uplink",
  outside: "outside",
};

class Stations {
  readonly #x: ReadonlyMap<StationKind, number>;

  constructor(readonly path: readonly Station[]) {
    const gap = path.length < 2 ? 0 : (WIDTH - 2 * MARGIN) / (path.length - 1);
    this.#x = new Map(path.map((place, index) => [place.kind, MARGIN + index * gap]));
  }

  x(kind: StationKind): number {
    return this.#x.get(kind) ?? this.#x.get("node") ?? MARGIN;
  }

  /** Half-way from one station to the one before or after it. */
  beside(kind: StationKind, step: 1 | -1): number {
    const index = this.path.findIndex((place) => place.kind === kind);
    const next = this.path[index + step];
    return next === undefined ? this.x(kind) : (this.x(kind) + this.x(next.kind)) / 2;
  }

  /** What belongs to the node, framed. */
  nodeFrame(): string {
    const inside = this.path.filter((place) => place.kind !== "pod" && place.kind !== "outside");
    const first = inside[0];
    const last = inside.at(-1);
    if (first === undefined || last === undefined) return "";
    const left = this.x(first.kind) - STATION.width / 2 - 14;
    const width = this.x(last.kind) - this.x(first.kind) + STATION.width + 28;
    return `<rect class="frame" x="${left}" y="14" width="${width}" height="${HEIGHT - 28}" rx="18"/>
<text class="frame-name" x="${left + 18}" y="40">the node</text>`;
  }

  station(place: Station): string {
    const x = this.x(place.kind);
    const name = place.kind === "node" ? "the kernel" : place.name;
    const small =
      place.address ?? (place.kind === "node" || place.kind === "outside" ? "" : WORDS[place.kind]);
    const text = place.kind === "node" ? WORDS.node : small;
    return `<g class="station ${place.kind}">
<rect x="${x - STATION.width / 2}" y="${STATION.top}" width="${STATION.width}" height="${STATION.height}" rx="12"/>
<text class="name" x="${x}" y="${STATION.top + 33}">${escapeText(short(name, 16))}</text>
<text class="address" x="${x}" y="${STATION.top + 54}">${escapeText(short(text, 20))}</text>
</g>`;
  }
}

function short(text: string, most: number): string {
  return text.length <= most ? text : `${text.slice(0, most - 1)}…`;
}

// ── Legs ─────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Point {
  readonly x: number;
  readonly y: number;
}

interface Leg {
  readonly svg: string;
  readonly marks: string;
  readonly points: readonly Point[];
}

/** The way that the exchange takes first. */
export function firstHeading({ begunBy }: Pick<TraceReport, "begunBy">): "out" | "back" {
  return begunBy === "outside" ? "back" : "out";
}

/** What was seen on the first way, and on the second when it was entered upon. */
export function legsOf(report: TraceReport): Sighting[][] {
  const first = firstHeading(report);
  const legs = [first, first === "out" ? "back" : "out"].map((heading) =>
    report.sightings.filter((sighting) => sighting.heading === heading),
  );
  return legs.filter((leg, index) => index === 0 || leg.length > 0);
}

function legOf(
  report: TraceReport,
  stations: Stations,
  sightings: readonly Sighting[],
  isLast: boolean,
): Leg {
  const heading = sightings[0]?.heading ?? firstHeading(report);
  const isLost = report.stop !== undefined && isLast;
  const y = heading === "out" ? OUT_LANE : BACK_LANE;
  const xs = sightings.map((sighting) => stations.x(sighting.place));
  const start = heading === "out" ? stations.x("pod") : startOfAnswer(stations, sightings);
  const last = sightings.at(-1);
  const end = isLost ? crossAt(report, stations, last, heading) : endOf(stations, last, heading);
  const lane = `<path class="lane ${isLost ? "lost" : ""} ${heading}" d="M${start} ${y} H${end}"/>`;
  const dots = sightings.map((sighting, index) => dot(sighting, xs[index]!, y, sightings[index - 1]));
  const cross = isLost ? `<path class="cross" d="M${end - 9} ${y - 9} l18 18 m0 -18 l-18 18"/>` : "";
  return {
    svg: lane,
    marks: [...dots, ...tuples(sightings, stations, y, heading), cross].join("\n"),
    points: [
      { x: start, y },
      { x: end, y },
    ],
  };
}

function startOfAnswer(stations: Stations, sightings: readonly Sighting[]): number {
  return sightings[0]?.place === "uplink"
    ? stations.x("outside")
    : stations.x(sightings[0]?.place ?? "outside");
}

function endOf(stations: Stations, last: Sighting | undefined, heading: "out" | "back"): number {
  if (heading === "back") return stations.x("pod");
  return last?.place === "uplink" ? stations.x("outside") : stations.x(last?.place ?? "pod");
}

/** Where the packet ended: at the kernel for what the kernel decided, else behind the place it was last seen at. */
function crossAt(
  report: TraceReport,
  stations: Stations,
  last: Sighting | undefined,
  heading: "out" | "back",
): number {
  const step = report.stop!.step;
  if (heading === "out" && report.begunBy !== "outside") {
    if (step >= 7) return stations.x("outside");
    if (step >= 3 && step <= 5) return stations.x("node");
    if (step === 6) return stations.beside("node", 1);
    return stations.beside(last?.place ?? "pod", 1);
  }
  if (last === undefined || last.place === "uplink") return stations.x("node");
  return stations.beside(last.place, heading === "out" ? 1 : -1);
}

function dot(sighting: Sighting, x: number, y: number, before: Sighting | undefined): string {
  const label = before === undefined ? "" : `+${durationText(sighting.atUs - before.atUs)}`;
  const labelY = sighting.heading === "out" ? y + 24 : y - 14;
  return `<circle class="dot ${sighting.heading}" cx="${x}" cy="${y}" r="5"><title>${escapeText(`${sighting.interface}: ${sighting.summary}, at ${durationText(sighting.atUs)}`)}</title></circle>
<text class="time" x="${x}" y="${labelY}">${label}</text>`;
}

/** The packet's two ends, once for each form it had on this leg. */
function tuples(
  sightings: readonly Sighting[],
  stations: Stations,
  y: number,
  heading: "out" | "back",
): string[] {
  const forms = new Map<string, number[]>();
  for (const sighting of sightings) {
    const ends = /^(\S+ → \S+)/.exec(sighting.summary)?.[1] ?? sighting.summary;
    const xs = forms.get(ends) ?? [];
    xs.push(stations.x(sighting.place));
    forms.set(ends, xs);
  }
  return [...forms].map(([ends, xs]) => {
    const isOutside = xs.length === 1 && xs[0] === stations.x("uplink");
    const middle = isOutside
      ? (stations.x("uplink") + stations.x("outside")) / 2 - 30
      : (Math.min(...xs) + Math.max(...xs)) / 2;
    const x = Math.min(WIDTH - 165, Math.max(165, middle));
    const textY = heading === "out" ? y - 20 : y + 32;
    return `<text class="tuple ${isOutside ? "outside" : "inside"}" x="${x}" y="${textY}">${escapeText(ends)}</text>`;
  });
}

/** A packet that goes the way, again and again; still for people who asked for less motion. */
function movingPacket(points: readonly Point[], report: TraceReport): string {
  const [first, ...rest] = points;
  if (first === undefined) return "";
  const way = `M${first.x} ${first.y} ${rest.map(({ x, y }) => `L${x} ${y}`).join(" ")}`;
  const kind = report.stop === undefined ? "delivered" : "lost";
  return `<circle class="packet ${kind}" r="8" style="offset-path:path('${way}')"/>`;
}
