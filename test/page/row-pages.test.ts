/** The pages of a long table, as the browser keeps them. */
import { expect, test } from "bun:test";
import {
  extentOf,
  MOST_ROWS,
  PAGE_ROWS,
  pagesOf,
  rowAt,
  withPage,
  type Pages,
} from "../../src/page/layout/row-pages.ts";

const page = (number: number, length = PAGE_ROWS): string[] =>
  Array.from({ length }, (_, index) => `row ${number * PAGE_ROWS + index}`);
const none: Pages<string> = new Map();

test("rows stand on the pages that are asked for", () => {
  expect(pagesOf(0, 1)).toEqual([0]);
  expect(pagesOf(90, 130)).toEqual([0, 1]);
  expect(pagesOf(100, 100)).toEqual([1]);
  const pages = withPage(withPage(none, 0, page(0)), 7, page(7));
  expect(rowAt(pages, 742)).toBe("row 742");
  expect(rowAt(pages, 300)).toBeUndefined();
});

test("however far one scrolls, no more than the most rows are kept, those around what is seen", () => {
  let pages = none;
  for (let number = 0; number < 2400; number++) {
    pages = withPage(pages, number, page(number));
    expect([...pages.values()].reduce((sum, { length }) => sum + length, 0)).toBeLessThanOrEqual(MOST_ROWS);
  }
  expect(rowAt(pages, 239_999)).toBe("row 239999");
  expect(rowAt(pages, 0)).toBeUndefined();
  pages = withPage(pages, 0, page(0));
  expect(rowAt(pages, 0)).toBe("row 0");
});

test("a page that is not full is the last one, and what was behind it is gone", () => {
  const pages = withPage(withPage(none, 0, page(0)), 1, page(1));
  expect(extentOf(pages)).toEqual({ rows: 200, all: false });
  expect(extentOf(withPage(pages, 2, page(2, 30)))).toEqual({ rows: 230, all: true });
  expect(extentOf(withPage(pages, 2, []))).toEqual({ rows: 200, all: true });
  expect(extentOf(withPage(pages, 0, page(0, 3)))).toEqual({ rows: 3, all: true });
  expect(extentOf(none)).toEqual({ rows: 0, all: false });
});
