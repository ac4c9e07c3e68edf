/** Places on the picture, and lines between them. Pure. */
/** Of a pod, in pixels: where its wire begins. */
export const ROW_HEIGHT = 46;
/** Along it a narrow picture reads. */
export const RAIL = { x: 14, indent: 34, boxHeight: 62, gap: 14 } as const;

export interface Area {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

export type Placed<T> = T & Area;

export interface Point {
  readonly x: number;
  readonly y: number;
}

/** Where a wire enters a thing, and where it leaves. */
export interface Ends {
  readonly in: Point;
  readonly out: Point;
}

export function endsOf(area: Area, narrow: boolean): Ends {
  const y = area.y + (narrow ? Math.min(area.height, ROW_HEIGHT) : area.height) / 2;
  if (narrow) return { in: { x: RAIL.x, y }, out: { x: RAIL.x, y } };
  return { in: { x: area.x, y }, out: { x: area.x + area.width, y } };
}

export function line(from: Point, to: Point, narrow: boolean): string {
  if (narrow || from.y === to.y) return `L${to.x} ${to.y}`;
  const middle = (from.x + to.x) / 2;
  return `C${middle} ${from.y} ${middle} ${to.y} ${to.x} ${to.y}`;
}

export function wirePath(from: Point, to: Point, narrow: boolean): string {
  return `M${from.x} ${from.y}${line(from, to, narrow)}`;
}

/** A curve is walked in so many steps. */
const STEPS = 12;

/** The points on the way of `line`, close to each other, without the first. */
export function pointsOf(from: Point, to: Point, narrow: boolean): Point[] {
  if (narrow || from.y === to.y) return [to];
  const middle = (from.x + to.x) / 2;
  return Array.from({ length: STEPS }, (_, index) => {
    const t = (index + 1) / STEPS;
    const [a, b, c, d] = [(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t ** 2 * (1 - t), t ** 3];
    return { x: a * from.x + (b + c) * middle + d * to.x, y: (a + b) * from.y + (c + d) * to.y };
  });
}
