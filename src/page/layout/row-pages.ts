/**
 * A long table of which the agent has the rows: what is looked at is asked for page by page, and so much is kept that
 * scrolling back finds it again. A page that was left behind is forgotten. Pure.
 */
/** No more rows than this are ever in the browser. */
export const MOST_ROWS = 2000;
export const PAGE_ROWS = 100;
/** So many pages around what is looked at. */
const KEPT_PAGES = MOST_ROWS / PAGE_ROWS;

/** Pages by their number from 0. */
export type Pages<T> = ReadonlyMap<number, readonly T[]>;

/** The pages on which these rows stand. */
export function pagesOf(first: number, last: number): number[] {
  const [from, to] = [first, Math.max(first, last - 1)].map((row) =>
    Math.floor(Math.max(0, row) / PAGE_ROWS),
  );
  return Array.from({ length: to! - from! + 1 }, (_, index) => from! + index);
}

/** With a page as it was answered now; those farthest away from it go. */
export function withPage<T>(pages: Pages<T>, number: number, rows: readonly T[]): Pages<T> {
  const next = new Map(pages).set(number, rows);
  // Behind a page that is not full there is none: flows have ended since the others were read.
  if (rows.length < PAGE_ROWS) for (const other of pages.keys()) if (other > number) next.delete(other);
  const far = [...next.keys()].toSorted((a, b) => Math.abs(b - number) - Math.abs(a - number));
  for (const other of far.slice(0, Math.max(0, next.size - KEPT_PAGES))) next.delete(other);
  return next;
}

/** How many rows there are as far as is known, and whether that is all. */
export function extentOf<T>(pages: Pages<T>): { readonly rows: number; readonly all: boolean } {
  const last = Math.max(-1, ...pages.keys());
  const length = pages.get(last)?.length ?? 0;
  if (last >= 0 && length < PAGE_ROWS) return { rows: last * PAGE_ROWS + length, all: true };
  return { rows: (last + 1) * PAGE_ROWS, all: false };
}

export function rowAt<T>(pages: Pages<T>, index: number): T | undefined {
  return pages.get(Math.floor(index / PAGE_ROWS))?.[index % PAGE_ROWS];
}
