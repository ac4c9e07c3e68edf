import { expect } from "bun:test";
import { ask, testWith } from "./support/witness.ts";
import { freshNamespace } from "./support/world.ts";
testWith(["root", "ip"])("a fresh namespace has loopback", () => {
  expect(ask(freshNamespace(), ["ip", "-o", "link"])).toContain("lo");
});
