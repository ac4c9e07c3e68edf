/** The doctor's work grows with the number of pods, and no faster: counted are looks into the snapshot, which no load changes. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { examine } from "../../src/examination/examine.ts";
import { parseSnapshot } from "../../src/snapshot/file.ts";
import type { Snapshot } from "../../src/snapshot/snapshot.ts";

const GOLDEN = readFileSync(join(import.meta.dir, "..", "snapshot", "golden", "v2.json"), "utf8");
/** What the golden snapshot's one pod has to itself. */
const ITS = { v4: "10.213.0.2", v6: "fd59:c2bc:faab::2", mac: "ce:46:19:8b:07:51", veth: "woutxua4xnzsbo4" };
const FIRST_INDEX = 100;

function replaced(text: string, pairs: readonly (readonly [string, string])[]): string {
  return pairs.reduce((one, [from, to]) => one.replaceAll(from, to), text);
}

/** The golden snapshot's node with so many pods (up to 250), each as its own and attached to the same bridge. */
function nodeWith(pods: number): Snapshot {
  const golden = JSON.parse(GOLDEN) as Snapshot;
  const copies = (value: unknown): string[] =>
    Array.from({ length: pods }, (_, number) => {
      const hex = (number + 2).toString(16).padStart(4, "0");
      return replaced(JSON.stringify(value), [
        [`${ITS.v4}/`, `10.213.0.${2 + number}/`],
        [`"${ITS.v4}"`, `"10.213.0.${2 + number}"`],
        [ITS.v6, `fd59:c2bc:faab::${hex}`],
        [ITS.mac, `ce:46:19:8b:${hex.slice(0, 2)}:${hex.slice(2)}`],
        [ITS.veth, `veth${number}`],
        ["blue", `pod-${number}`],
        ['"link":4,', `"link":${FIRST_INDEX + number},`],
        ['"index":4,', `"index":${FIRST_INDEX + number},`],
        ['"interface":4,', `"interface":${FIRST_INDEX + number},`],
        ['"linkNamespaceId":1,', `"linkNamespaceId":${number + 1},`],
      ]);
    });
  const parsed = <T>(values: readonly T[]): T[] =>
    values.flatMap((one) => copies(one).map((text) => JSON.parse(text) as T));
  /** Those that speak of the pod become as many, the others stay. */
  const each = <T>(values: readonly T[], mark: string): T[] => [
    ...values.filter((one) => !JSON.stringify(one).includes(mark)),
    ...parsed(values.filter((one) => JSON.stringify(one).includes(mark))),
  ];
  const { node } = golden;
  const crowded = {
    ...golden,
    node: {
      ...node,
      links: each(node.links, ITS.veth),
      routeAnswers: [...each(node.routeAnswers, ITS.v4), ...each(node.routeAnswers, ITS.v6)],
    },
    pods: parsed(golden.pods),
  };
  return parseSnapshot(JSON.stringify(crowded), "crowded.json");
}

/** The same value, and how often something in it was looked at. */
function counted<T extends object>(value: T): { readonly value: T; readonly looks: () => number } {
  let looks = 0;
  const known = new WeakMap<object, object>();
  const watched = (inside: unknown): unknown => {
    if (typeof inside !== "object" || inside === null) return inside;
    const before = known.get(inside);
    if (before !== undefined) return before;
    const proxy = new Proxy(inside, {
      get(target, key) {
        looks++;
        return watched(Reflect.get(target, key));
      },
    });
    known.set(inside, proxy);
    return proxy;
  };
  return { value: watched(value) as T, looks: () => looks };
}

/** Every pod on the same bridge with the same address, as only a stranger's snapshot has it. */
function nodeWithTwins(pods: number): Snapshot {
  const snapshot = nodeWith(pods);
  const [first] = snapshot.pods;
  return {
    ...snapshot,
    pods: snapshot.pods.map((pod, number) => ({
      ...pod,
      state: { ...pod.state!, inode: number + 1, addresses: first!.state!.addresses },
    })),
  };
}

function looksAt(snapshot: Snapshot): number {
  const { value, looks } = counted(snapshot);
  const { diagnoses } = examine({ snapshot: value });
  expect(diagnoses).toHaveLength(snapshot.pods.length);
  const twins = new Set(snapshot.pods.map((pod) => pod.state!.addresses)).size < snapshot.pods.length;
  expect(
    diagnoses.filter((one) => one.findings.some(({ code }) => code === "duplicate-address")),
  ).toHaveLength(twins ? snapshot.pods.length : 0);
  if (!twins) expect(diagnoses.filter((one) => !one.healthy || one.blind)).toEqual([]);
  return looks();
}

for (const [name, make] of [
  ["each with an address of its own", nodeWith],
  ["all with the same address", nodeWithTwins],
] as const) {
  test(`ten times the pods cost at most twelve times the work: ${name}`, () => {
    const [few, many] = [looksAt(make(20)), looksAt(make(200))];
    expect(many / few).toBeLessThan(12);
  }, 300_000);
}
