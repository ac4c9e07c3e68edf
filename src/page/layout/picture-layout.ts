/**
 * Where everything stands. The picture has a fixed grammar, so that no general graph layout is needed: pods, their bridge,
 * the node's routing and filters, its translation, its uplink, the outside. Wide it reads from left to right, narrow from
 * top to bottom along one rail. Pure: from state to coordinates in pixels.
 */
import type { NodePicture, PicturePod } from "../../agent/picture/picture.ts";
import { boxesOf, type StageBox } from "./boxes.ts";
import { destinationsOf, type Destination, type ShownFlow } from "./destinations.ts";
import { rowsOf, type Row } from "./rows.ts";
import { STAGES, stageOf, type Stage } from "./stages.ts";

export interface Area {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

export type Placed<T> = T & Area;

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

export interface MovingFlow {
  readonly flow: ShownFlow;
  readonly path: string;
  /** Whether packets go to and fro: it is open, and they get through. */
  readonly moves: boolean;
  /** Where it stands when it does not move. */
  readonly x: number;
  readonly y: number;
}

export interface PictureLayout {
  readonly narrow: boolean;
  readonly width: number;
  readonly height: number;
  readonly rows: readonly Placed<Row>[];
  readonly boxes: readonly Placed<StageBox>[];
  readonly destinations: readonly Placed<Destination>[];
  readonly wires: readonly Wire[];
  readonly breaks: readonly Break[];
  /** Where stages sit on the rail of a narrow picture. */
  readonly joints: readonly Break[];
  readonly flows: readonly MovingFlow[];
  /** The way of the chosen pod's packet up to a stage, for the trace. */
  readonly way: ReadonlyMap<Stage, { readonly x: number; readonly y: number }>;
}

/** Below this the picture reads from top to bottom. */
export const NARROW = 1060;
/** So many flows move at once. */
const MOST_MOVING = 16;
const MARGIN = 2;
/** Beside a box that lets nothing through, on the wire: its mark covers no letter of the name. */
export const BEFORE = 15;
const ROW = { height: 46, gap: 12, width: 190 } as const;
const BOX = { width: 148, height: 76, gap: 22 } as const;
const TARGET = { height: 38, gap: 8, width: 188 } as const;
/** Of a few pods the tiles are larger. */
const TILES = [
  { upTo: 60, size: 14, gap: 4 },
  { upTo: Infinity, size: 10, gap: 3 },
] as const;
const RAIL = { x: 14, indent: 34, boxHeight: 62, gap: 14 } as const;

export function layoutOf(
  picture: NodePicture,
  flows: readonly ShownFlow[],
  chosen: PicturePod | undefined,
  width: number,
): PictureLayout {
  const narrow = width < NARROW;
  const rows = rowsOf(picture.pods, chosen?.name);
  const boxes = boxesOf(picture);
  const destinations = destinationsOf(flows, picture);
  const placed = narrow
    ? placedDown(rows, boxes, destinations, width)
    : placedAcross(rows, boxes, destinations, width);
  const joints = narrow
    ? [...placed.boxes, ...placed.destinations].map((area) => ({ key: area.key, ...endsOf(area, true).in }))
    : [];
  return { narrow, width, ...placed, joints, ...connected(placed, picture, flows, chosen, narrow) };
}

interface Everything {
  readonly height: number;
  readonly rows: readonly Placed<Row>[];
  readonly boxes: readonly Placed<StageBox>[];
  readonly destinations: readonly Placed<Destination>[];
}

/** The height that the tiles of a group need besides its heading. */
function rowHeight(row: Row, width: number): number {
  if (row.kind === "pod" || !row.tiles) return ROW.height;
  const last = tilePlace(row.pods.length - 1, row.pods.length, width);
  return last.y + last.size + 10;
}

/** Where a tile of a group stands in it, of so many. */
export function tilePlace(
  index: number,
  count: number,
  width: number,
): { readonly x: number; readonly y: number; readonly size: number } {
  const { size, gap } = TILES.find(({ upTo }) => count <= upTo)!;
  const across = Math.max(1, Math.floor((width - 20) / (size + gap)));
  return {
    x: 11 + (index % across) * (size + gap),
    y: ROW.height - 2 + Math.floor(index / across) * (size + gap),
    size,
  };
}

function placedAcross(
  rows: readonly Row[],
  boxes: readonly StageBox[],
  destinations: readonly Destination[],
  width: number,
): Everything {
  const heights = rows.map((row) => rowHeight(row, ROW.width));
  const column = (sizes: readonly number[], gap: number): number =>
    sizes.reduce((sum, size) => sum + size + gap, -gap);
  const groups = Map.groupBy(boxes, ({ stage }) => stage);
  const tallest = Math.max(
    ...[...groups.values()].map((own) => own.length * (BOX.height + BOX.gap) - BOX.gap),
  );
  const height =
    Math.max(column(heights, ROW.gap), destinations.length * (TARGET.height + TARGET.gap), tallest, 110) +
    2 * MARGIN;
  const xs = columnsAcross(width);
  const stacked = <T>(
    items: readonly T[],
    sizes: readonly number[],
    gap: number,
    x: number,
    w: number,
  ): Placed<T>[] => {
    let y = (height - column(sizes, gap)) / 2;
    return items.map((item, index) => {
      const area = { x, y, width: w, height: sizes[index]! };
      y += sizes[index]! + gap;
      return { ...item, ...area };
    });
  };
  return {
    height,
    rows: stacked(rows, heights, ROW.gap, MARGIN, ROW.width),
    boxes: [...groups].flatMap(([stage, own]) =>
      stacked(
        own,
        own.map(() => BOX.height),
        BOX.gap,
        xs[stage]!,
        BOX.width,
      ),
    ),
    destinations: stacked(
      destinations,
      destinations.map(() => TARGET.height),
      TARGET.gap,
      width - TARGET.width - MARGIN,
      TARGET.width,
    ),
  };
}

/** The wire to the bridge is longer than the others: it carries the veth's name. */
function columnsAcross(width: number): Partial<Record<Stage, number>> {
  const stages = ["bridge", "forward", "translate", "uplink"] as const;
  const free = width - 2 * MARGIN - ROW.width - TARGET.width - stages.length * BOX.width;
  const [first, gap] = [free * 0.3, (free * 0.7) / stages.length];
  return Object.fromEntries(
    stages.map((stage, index) => [stage, MARGIN + ROW.width + first + index * (BOX.width + gap)]),
  );
}

function placedDown(
  rows: readonly Row[],
  boxes: readonly StageBox[],
  destinations: readonly Destination[],
  width: number,
): Everything {
  const own = width - RAIL.indent - MARGIN;
  let y = MARGIN;
  const next = (height: number, gap: number): Area => {
    const area = { x: RAIL.indent, y, width: own, height };
    y += height + gap;
    return area;
  };
  const placed = {
    rows: rows.map((row) => ({ ...row, ...next(rowHeight(row, own), 8) })),
    boxes: boxes.map((box) => ({ ...box, ...next(RAIL.boxHeight, RAIL.gap) })),
    destinations: destinations.map((one) => ({ ...one, ...next(TARGET.height, TARGET.gap) })),
  };
  return { ...placed, height: y };
}

interface Point {
  readonly x: number;
  readonly y: number;
}

/** Where a wire enters a thing, and where it leaves. */
interface Ends {
  readonly in: Point;
  readonly out: Point;
}

function endsOf(area: Area, narrow: boolean): Ends {
  const y = area.y + (narrow ? Math.min(area.height, ROW.height) : area.height) / 2;
  if (narrow) return { in: { x: RAIL.x, y }, out: { x: RAIL.x, y } };
  return { in: { x: area.x, y }, out: { x: area.x + area.width, y } };
}

function line(from: Point, to: Point, narrow: boolean): string {
  if (narrow || from.y === to.y) return `L${to.x} ${to.y}`;
  const middle = (from.x + to.x) / 2;
  return `C${middle} ${from.y} ${middle} ${to.y} ${to.x} ${to.y}`;
}

function wirePath(from: Point, to: Point, narrow: boolean): string {
  return `M${from.x} ${from.y}${line(from, to, narrow)}`;
}

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

function connected(
  { rows, boxes, destinations }: Everything,
  picture: NodePicture,
  flows: readonly ShownFlow[],
  chosen: PicturePod | undefined,
  narrow: boolean,
): Pick<PictureLayout, "wires" | "breaks" | "flows" | "way"> {
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
    wires.push({
      key: row.key,
      path,
      alive: members.some((pod) => reachOf(pod) > 0),
      chosen: chosen !== undefined && members.includes(chosen),
      ...(veth === undefined || narrow
        ? {}
        : { label: { text: veth, x: from.x + 10, y: from.y + (to.y < from.y ? 16 : -8) } }),
    });
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
    const start = rowEnds(row);
    let [path, from] = [`M${start.x} ${start.y}`, start];
    if (narrow) {
      from = { x: RAIL.x, y: start.y };
      path += `L${from.x} ${from.y}`;
    }
    for (const area of [...wayOf(flow.pod), target]) {
      const ends = endsOf(area, narrow);
      path += line(from, ends.in, narrow) + line(ends.in, ends.out, narrow);
      from = area === target ? ends.in : ends.out;
    }
    // It ends where the destination begins: not behind its text.
    const end = endsOf(target, narrow).in;
    return [
      {
        flow,
        path: narrow ? path : path.slice(0, path.lastIndexOf("L")),
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
