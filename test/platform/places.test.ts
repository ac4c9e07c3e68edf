/** Places in the small program's one script, as the build writes them down and as an error tells them. */
import { expect, test } from "bun:test";
import { inSources, placesText } from "../../src/platform/places.ts";

test("a stack names our files and lines, and keeps what it does not know", () => {
  const lines = placesText([
    [0, 1],
    [0, 2],
    [1, 40],
    [1, 30],
    [1, 31],
    [0, 3],
  ]);
  expect(lines).toBe("0:1,,1:40,30,,0:3");
  const places = { script: "wayout-cni.js", files: ["src/a.ts", "src/b.ts"], lines };
  const stack = `    at one (wayout-cni.js:1:7)
    at two (wayout-cni.js:5)
    at three (wayout-cni.js:6:1)
    at four (wayout-cni.js:7:1)
    at call (native)
`;
  expect(inSources(stack, places)).toBe(`    at one (src/a.ts:1)
    at two (src/b.ts:31)
    at three (src/a.ts:3)
    at four (wayout-cni.js:7)
    at call (native)
`);
});
