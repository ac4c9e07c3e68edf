/**
 * Where everything stands. The picture has a fixed grammar, so that no general graph layout is needed: pods, their bridge,
 * the node's routing and filters, its translation, its uplink, the outside. Wide it reads from left to right, narrow from
 * top to bottom along one rail. Pure: from state to coordinates in pixels.
 */
import type { NodePicture, PicturePod } from "../../agent/picture/picture.ts";
import { boxesOf, type StageBox } from "./boxes.ts";
import { destinationsOf, type Destination, type ShownFlow } from "./destinations.ts";
import { endsOf, RAIL, ROW_HEIGHT, type Area, type Placed } from "./geometry.ts";
import { rowsOf, type Row } from "./rows.ts";
import type { Stage } from "./stages.ts";
import { connected, type Break, type Everything, type Ways } from "./ways.ts";

export interface PictureLayout extends Everything, Ways {
  readonly narrow: boolean;
  readonly width: number;
  /** Where stages sit on the rail of a narrow picture. */
  readonly joints: readonly Break[];
}

/** Below this the picture reads from top to bottom. */
export const NARROW = 1060;
const MARGIN = 2;
const ROW = { height: ROW_HEIGHT, gap: 12, width: 190 } as const;
const BOX = { width: 148, height: 76, gap: 22 } as const;
const TARGET = { height: 38, gap: 8, width: 188 } as const;
/** Of a few pods the tiles are larger. */
const TILES = [
  { upTo: 60, size: 14, gap: 4 },
  { upTo: Infinity, size: 10, gap: 3 },
] as const;

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

/** Which tile lies under a point of the box. */
export function tileAt(x: number, y: number, count: number, width: number): number | undefined {
  const { size } = tilePlace(0, count, width);
  const under = (index: number): boolean => {
    const at = tilePlace(index, count, width);
    return x >= at.x && x < at.x + size && y >= at.y && y < at.y + size;
  };
  return Array.from({ length: count }, (_, index) => index).find(under);
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
