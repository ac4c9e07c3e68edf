/** A pod may fill its own namespace with any number of things: a trace goes on, and says what it did not read. */
import { expect } from "bun:test";
import { ask, testWith } from "../support/witness.ts";
import { makeWorld } from "./world.ts";

/** Of one interface more are refused: they would not fit into one attribute. */
const NAMES = 480;
const LINKS = 80;
const NEIGHBOURS = 60_000;

const numbers = (count: number): number[] => Array.from({ length: count }, (_, number) => number);

/** More than is read of a pod, in as few objects as may be: an interface may have names of 127 bytes. */
function manyNames(): string {
  return numbers(LINKS)
    .map((link) => {
      const names = numbers(NAMES).map((number) => `altname ${`${link}-${number}-`.padEnd(120, "x")}`);
      const lines = numbers(NAMES / 6).map((six) => names.slice(6 * six, 6 * six + 6).join(" "));
      const added = lines.map((line) => `link property add dev many${link} ${line}\n`);
      return [`link add many${link} type bridge\n`, ...added].join("");
    })
    .join("");
}

function manyNeighbours(): string {
  return numbers(NEIGHBOURS)
    .map((number) => `100.${64 + (number >> 16)}.${(number >> 8) & 255}.${number & 255}`)
    .map((address) => `neighbour add ${address} lladdr 02:00:00:00:00:01 dev net1 nud permanent\n`)
    .join("");
}

testWith(["root", "nft"])(
  "more interfaces and neighbours than are read of a pod",
  async () => {
    await using world = await makeWorld();
    ask(world.pod, ["ip", "-batch", "-"], manyNames());
    ask(world.pod, ["ip", "-batch", "-"], manyNeighbours());
    const report = world.trace();
    expect(report.outcome).toBe("answered");
    const why = expect.stringContaining("which was given up") as unknown as string;
    // An ordinary user has no drop reasons either.
    const ofPod = report.missing.filter(({ what }) => what.endsWith("of the pod"));
    expect(ofPod).toEqual([
      { what: "links of the pod", why },
      { what: "neighbours of the pod", why },
    ]);
  },
  120_000,
);
