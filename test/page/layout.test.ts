/** Where things stand on the picture: pure, so that it is tested without a browser. */
import { expect, test } from "bun:test";
import type { NodePicture, PicturePod } from "../../src/agent/picture/picture.ts";
import type { FlowRecord } from "../../src/flows/flow-record.ts";
import { likeBefore } from "../../src/page/layout/like-before.ts";
import { layoutOf, NARROW, tileAt, tilePlace } from "../../src/page/layout/picture-layout.ts";
import { reachOf, type MovingFlow } from "../../src/page/layout/ways.ts";
import { MOST_TILES, rowsOf } from "../../src/page/layout/rows.ts";
import { spanText } from "../../src/page/layout/flow-text.ts";
import { parseAddressBar, addressBarText } from "../../src/page/layout/address-bar.ts";

function podCalled(name: string, more: Partial<PicturePod> = {}): PicturePod {
  return {
    name,
    ask: name,
    addresses: ["10.0.0.1"],
    bridge: "br0",
    veth: "v0",
    condition: "well",
    answer: "",
    ...more,
  };
}

function node(pods: readonly PicturePod[]): NodePicture {
  return {
    takenAt: "2026-01-01T00:00:00Z",
    kernel: "6.18",
    forwarding: { ipv4: true },
    bridges: [{ name: "br0", up: true, addresses: ["10.0.0.254/24"] }],
    uplinks: [{ name: "eth0", up: true, addresses: ["203.0.113.5/24"], gateways: ["203.0.113.1"] }],
    pods,
    findings: [],
  };
}

function many(count: number, more: Partial<PicturePod> = {}): PicturePod[] {
  return Array.from({ length: count }, (_, index) => podCalled(`pod-${index}`, more));
}

test("pods stand by themselves while there is room, then those in trouble do, and beyond 250 the others are counted", () => {
  expect(rowsOf(many(10), undefined).every(({ kind }) => kind === "pod")).toBe(true);
  const troubled = [podCalled("sick", { condition: "broken", step: "nat" }), ...many(40)];
  const rows = rowsOf(troubled, "pod-7");
  expect(rows.map(({ kind }) => kind)).toEqual(["pod", "pod", "group"]);
  expect(rows.at(-1)).toMatchObject({ tiles: true, condition: "well" });
  const shown = rows.flatMap((row) => (row.kind === "pod" ? [row.pod] : row.pods));
  expect(new Set(shown.map(({ name }) => name)).size).toBe(troubled.length);
  expect(rowsOf(many(MOST_TILES + 1), undefined)).toMatchObject([{ kind: "group", tiles: false }]);
});

test("nothing lies on another, nor beyond the edge, however wide the picture is", () => {
  for (const count of [0, 1, 10, 100, 1000]) {
    for (const width of [320, 640, NARROW, 1360]) {
      const { rows, boxes, destinations, height } = layoutOf(node(many(count)), [], undefined, width);
      const areas = [...rows, ...boxes, ...destinations];
      for (const [index, a] of areas.entries()) {
        expect(a.x >= 0 && a.y >= 0 && a.x + a.width <= width && a.y + a.height <= height).toBe(true);
        for (const b of areas.slice(index + 1)) {
          const apart =
            a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + a.height <= b.y || b.y + b.height <= a.y;
          expect([count, width, a.key, b.key, apart]).toEqual([count, width, a.key, b.key, true]);
        }
      }
    }
  }
});

test("a wire is alive as far as packets of some pod get", () => {
  const shut = podCalled("blue", { condition: "broken", step: "nat" });
  const alive = (pods: readonly PicturePod[]): boolean[] =>
    layoutOf(node(pods), [], undefined, 1360).wires.map((wire) => wire.alive);
  // pod → bridge → routing → translation → uplink → outside
  expect(alive([shut])).toEqual([true, true, true, false, false]);
  expect(alive([shut, podCalled("green")])).toEqual([true, true, true, true, true, true]);
  expect(alive([podCalled("blue", { condition: "broken", step: "pod-link" })])).toEqual(Array(5).fill(false));
  expect(reachOf(podCalled("blue", { condition: "warned", step: "mtu" }))).toBe(6);
});

test("a tile is found where it stands, and between tiles there is none", () => {
  for (const count of [1, 60, 61, 250]) {
    for (let index = 0; index < count; index++) {
      const { x, y, size } = tilePlace(index, count, 190);
      expect(tileAt(x + size / 2, y + size / 2, count, 190)).toBe(index);
      expect(tileAt(x + size + 0.5, y + size / 2, count, 190)).toBeUndefined();
    }
  }
});

test("a connection's way goes from its pod to its destination without a gap, and behind every box", () => {
  const pods = [podCalled("blue"), podCalled("green", { addresses: ["10.0.0.2"] })];
  const record = {
    id: 7,
    protocolName: "tcp",
    state: "ESTABLISHED",
    original: { source: "10.0.0.2" },
    translation: {
      source: { address: "10.0.0.2", port: 1 },
      destination: { address: "192.0.2.1", port: 80 },
    },
  } as unknown as FlowRecord;
  for (const width of [390, 1360]) {
    const { flows, destinations, boxes } = layoutOf(
      node(pods),
      [{ key: "7", record, pod: pods[1]! }],
      undefined,
      width,
    );
    const [{ legs, moves }] = flows as [MovingFlow];
    expect(moves).toBe(true);
    for (const [index, { points }] of legs.slice(1).entries())
      expect(points[0]).toEqual(legs[index]!.points.at(-1));
    const end = legs.at(-1)!.points.at(-1)!;
    if (width === 1360) expect(end.x).toBe(destinations[0]!.x);
    expect(legs.filter(({ behind }) => behind)).toHaveLength(width === 1360 ? boxes.length : 0);
  }
});

test("what is as it was before is the same object, wherever it stands now", () => {
  const before = node([podCalled("a"), podCalled("b", { answer: "fine" })]);
  const later = JSON.parse(JSON.stringify({ ...before, takenAt: "later" })) as NodePicture;
  const drawn = likeBefore(before, later);
  expect(drawn).toEqual(later);
  expect(drawn.pods).toBe(before.pods);
  expect(likeBefore(before, JSON.parse(JSON.stringify(before)))).toBe(before);
  const changed = likeBefore(before, node([podCalled("b", { answer: "fine" }), podCalled("c")]));
  expect(changed.pods[0]).toBe(before.pods[1]);
  expect(changed.pods[1]).toEqual(podCalled("c"));
  expect(changed.uplinks).toBe(before.uplinks);
  for (const [old, now] of [
    [[1, 2], [1]],
    [{ a: 1, b: 2 }, { a: 1 }],
    [null, {}],
    [{}, []],
    ["x", null],
  ])
    expect(likeBefore(old, now)).toEqual(now);
});

test("the address bar holds what is looked at, whatever a pod is called", () => {
  for (const pod of ["ns-blue", "a/b&c=d?e#f", "<img src=x>", "ü \u202e %41", "x".repeat(10_000)]) {
    const place = { view: "connections", of: { pod, at: "2026-01-01T00:00:00Z" } } as const;
    expect(parseAddressBar(addressBarText(place))).toEqual(place);
  }
  expect(parseAddressBar("#/nowhere?pod=")).toEqual({ view: "", of: {} });
  expect(parseAddressBar("")).toEqual({ view: "", of: {} });
});

test("a time is told in the unit in which a person would say it", () => {
  expect([0, 59, 119, 150, 599, 7_199, 431_998].map(spanText)).toEqual([
    "0 s",
    "59 s",
    "2 min",
    "3 min",
    "10 min",
    "2 h",
    "5 d",
  ]);
});
