/** Who is connected with whom on the picture, how far packets come, and the ways of connections. Pure. */
import type { NodePicture, PicturePod } from "../../agent/picture/picture.ts";
import type { StageBox } from "./boxes.ts";
import type { Destination, ShownFlow } from "./destinations.ts";
import { endsOf, line, pointsOf, RAIL, wirePath, type Area, type Placed, type Point } from "./geometry.ts";
import type { Row } from "./rows.ts";
import { STAGES, stageOf, type Stage } from "./stages.ts";
import { present } from "../../present.ts";

export interface Wire {
  readonly key: string;
  readonly path: string;
  /** Whether packets get through it. */
  readonly alive: boolean;
  /** Whether the chosen pod's packets take it. */
  readonly chosen: boolean;
  /** The name of the link that it is: a veth. */
  readonly label?: { readonly text: string; readonly x: number; readonly y: number };
}

/** A place where packets end. */
export interface Break {
  readonly key: string;
  readonly x: number;
  readonly y: number;
}

export interface Leg {
  readonly points: readonly Point[];
  /** Whether it lies behind a box. */
  readonly behind: boolean;
}

export interface MovingFlow {
  readonly flow: ShownFlow;
  readonly path: string;
  /** The same way in parts, each as points close to each other. */
  readonly legs: readonly Leg[];
  /** Whether packets go to and fro: it is open, and they get through. */
  readonly moves: boolean;
  /** Where it stands when it does not move. */
  readonly x: number;
  readonly y: number;
}

/** Everything that has a place. */
export interface Everything {
  readonly height: number;
  readonly rows: readonly Placed<Row>[];
  readonly boxes: readonly Placed<StageBox>[];
  readonly destinations: readonly Placed<Destination>[];
}

/** The ways between what has a place. */
export interface Ways {
  readonly wires: readonly Wire[];
  readonly breaks: readonly Break[];
  readonly flows: readonly MovingFlow[];
  /** The way of the chosen pod's packet up to a stage, for the trace. */
  readonly way: ReadonlyMap<Stage, Point>;
}

/** So many flows move at once. */
const MOST_MOVING = 16;
/** Beside a box that lets nothing through, on the wire: its mark covers no letter of the name. */
export const BEFORE = 15;

/** How far a pod's packets come: the stage at which they end; beyond the last when they get out. */
export function reachOf({ condition, step }: PicturePod): number {
  return condition === "broken" && step !== undefined ? STAGES.indexOf(stageOf(step)) : STAGES.length;
}

/** A wire from a stage to what comes next, and whose packets take it. */
interface Joint {
  readonly box: Placed<StageBox>;
  readonly next: Area & { readonly key: string };
  readonly through: readonly PicturePod[];
}

function membersOf(row: Row): readonly PicturePod[] {
  return row.kind === "pod" ? [row.pod] : row.pods;
}

export function connected(
  { rows, boxes, destinations }: Everything,
  picture: NodePicture,
  flows: readonly ShownFlow[],
  chosen: PicturePod | undefined,
  narrow: boolean,
): Ways {
  const at = (stage: Stage, name?: string): Placed<StageBox> | undefined =>
    boxes.find((box) => box.stage === stage && (name === undefined || box.name === name)) ??
    boxes.find((box) => box.stage === stage);
  const uplink = at("uplink");
  /** The boxes through which a pod's packets go. */
  const wayOf = (pod: PicturePod): readonly Placed<StageBox>[] =>
    [
      pod.bridge === undefined ? undefined : at("bridge", pod.bridge),
      at("forward"),
      at("translate"),
      uplink,
    ].filter((box) => box !== undefined);
  const rowEnds = (row: Area): Point =>
    narrow ? { x: RAIL.indent, y: endsOf(row, true).out.y } : endsOf(row, false).out;
  const chosenReach = chosen === undefined ? -1 : reachOf(chosen);
  const wires: Wire[] = [];
  for (const row of rows) {
    const members = membersOf(row);
    const [first] = wayOf(members[0]!);
    if (first === undefined) continue;
    const [from, to] = [rowEnds(row), endsOf(first, narrow).in];
    const veth = row.kind === "pod" ? row.pod.veth : undefined;
    const path = narrow ? `M${from.x} ${from.y}H${RAIL.x}V${to.y}` : wirePath(from, to, false);
    wires.push(
      present({
        key: row.key,
        path,
        alive: members.some((pod) => reachOf(pod) > 0),
        chosen: chosen !== undefined && members.includes(chosen),
        label:
          veth === undefined || narrow
            ? undefined
            : { text: veth, x: from.x + 10, y: from.y + (to.y < from.y ? 16 : -8) },
      }),
    );
  }
  const joints = boxes.flatMap((box): readonly Joint[] => {
    const through = picture.pods.filter((pod) => wayOf(pod).includes(box));
    if (box.stage === "uplink") return destinations.map((next) => ({ box, next, through }));
    const next = box.stage === "bridge" ? at("forward") : box.stage === "forward" ? at("translate") : uplink;
    return next === undefined ? [] : [{ box, next, through }];
  });
  for (const { box, next, through } of joints) {
    const reach = STAGES.indexOf(box.stage);
    wires.push({
      key: `${box.key} ${next.key}`,
      path: wirePath(endsOf(box, narrow).out, endsOf(next, narrow).in, narrow),
      alive: picture.pods.length === 0 || through.some((pod) => reachOf(pod) > reach),
      chosen: chosen !== undefined && through.includes(chosen) && chosenReach > reach,
    });
  }
  const breaks: Break[] = [
    ...rows.flatMap((row) =>
      membersOf(row).some((pod) => reachOf(pod) === 0) ? [{ key: row.key, ...rowEnds(row) }] : [],
    ),
    ...boxes.flatMap((box) => {
      if (box.state !== "shut") return [];
      const { x, y } = endsOf(box, narrow).in;
      return [{ key: box.key, x: narrow ? x : x - BEFORE, y }];
    }),
  ];
  return {
    wires,
    breaks,
    flows: movingFlows(flows, rows, destinations, wayOf, narrow, rowEnds),
    way:
      chosen === undefined ? new Map() : placesOf(chosen, rows, wayOf(chosen), destinations, narrow, rowEnds),
  };
}

function movingFlows(
  flows: readonly ShownFlow[],
  rows: readonly Placed<Row>[],
  destinations: readonly Placed<Destination>[],
  wayOf: (pod: PicturePod) => readonly Area[],
  narrow: boolean,
  rowEnds: (row: Area) => Point,
): MovingFlow[] {
  return flows.slice(0, MOST_MOVING).flatMap((flow): MovingFlow[] => {
    const row = rows.find((one) => membersOf(one).includes(flow.pod));
    const target = destinations.find(({ flows: own }) => own.includes(flow));
    if (row === undefined || target === undefined) return [];
    const corners = [rowEnds(row)];
    if (narrow) corners.push({ x: RAIL.x, y: corners[0]!.y });
    for (const area of wayOf(flow.pod)) {
      const ends = endsOf(area, narrow);
      corners.push(ends.in, ends.out);
    }
    // It ends where the destination begins: not behind its text.
    const end = endsOf(target, narrow).in;
    corners.push(end);
    const [start, ...others] = corners as [Point, ...Point[]];
    const pairs = others.map((to, index) => [corners[index]!, to] as const);
    // Between the two ends of a box.
    const behind = (index: number): boolean => !narrow && index % 2 === 1;
    return [
      {
        flow,
        path: `M${start.x} ${start.y}${pairs.map(([from, to]) => line(from, to, narrow)).join("")}`,
        legs: pairs.map(([from, to], index) => ({
          points: [from, ...pointsOf(from, to, narrow)],
          behind: behind(index),
        })),
        moves: isOpen(flow) && flow.pod.condition !== "broken",
        x: narrow ? end.x : end.x - RESTS_BEFORE,
        y: end.y,
      },
    ];
  });
}

/** Connections that rest lie on each other, so far before their destination, which counts them. */
const RESTS_BEFORE = 12;

/** What conntrack only remembers so that a late packet still finds its way. */
const OVER: ReadonlySet<string> = new Set(["TIME_WAIT", "CLOSE", "CLOSE_WAIT", "LAST_ACK", "FIN_WAIT"]);

function isOpen({ record }: ShownFlow): boolean {
  return !OVER.has(record.state);
}

function placesOf(
  chosen: PicturePod,
  rows: readonly Placed<Row>[],
  way: readonly Placed<StageBox>[],
  destinations: readonly Placed<Destination>[],
  narrow: boolean,
  rowEnds: (row: Area) => Point,
): ReadonlyMap<Stage, Point> {
  const places = new Map<Stage, Point>();
  const row = rows.find((one) => membersOf(one).includes(chosen));
  if (row !== undefined) places.set("pod", rowEnds(row));
  for (const box of way) places.set(box.stage, endsOf(box, narrow).in);
  const [target] = destinations;
  if (target !== undefined) places.set("outside", endsOf(target, narrow).in);
  return places;
}
