/** How many source ports were in use over the last hour: what is kept of it, and when it is looked for. */
import { expect, test } from "bun:test";
import { PortHistory } from "../../src/agent/port-history.ts";
import type { OutgoingPortUse } from "../../src/flows/flow-statistics.ts";
import { afterThisTest } from "../support/teardown.ts";

const MINUTE_MS = 60_000;

function use(used: number, more: Partial<OutgoingPortUse> = {}): OutgoingPortUse {
  return {
    protocol: "tcp",
    outgoing: "203.0.113.5",
    destination: `198.51.100.${used % 250}`,
    port: 443,
    used,
    of: 64_512,
    ...more,
  };
}

function scene(look: () => Promise<unknown> = async () => {}) {
  let clock = Date.parse("2026-01-01T00:00:00Z");
  const history = new PortHistory(look, () => clock);
  afterThisTest(() => history[Symbol.dispose]());
  return { history, pass: (ms: number) => void (clock += ms) };
}

test("the five fullest are kept, measured by the ports there are, the fullest first", () => {
  const { history } = scene();
  const few = use(90, { of: 100, port: 53, protocol: "udp" });
  history.note([use(1), use(400), use(3), use(200), few, use(100), use(300)]);
  expect(history.kept).toHaveLength(1);
  const [{ at, uses }] = history.kept as [(typeof history.kept)[0]];
  expect(at).toBe("2026-01-01T00:00:00.000Z");
  expect(uses.map(({ used }) => used)).toEqual([90, 400, 300, 200, 100]);
  expect(uses[0]).toEqual({
    protocol: "udp",
    outgoing: "203.0.113.5",
    destination: few.destination,
    port: 53,
    used: 90,
    of: 100,
  });
});

test("an hour is kept, the oldest first; what others looked up seconds later tells nothing new", () => {
  const { history, pass } = scene();
  history.note([use(1)]);
  pass(4_999);
  history.note([use(2)]);
  expect(history.kept.map(({ uses }) => uses[0]!.used)).toEqual([1]);
  for (let minute = 1; minute <= 90; minute++) {
    pass(MINUTE_MS);
    history.note(minute % 2 === 0 ? [] : [use(minute)]);
  }
  expect(history.kept.length).toBe(60);
  expect(history.kept.at(-2)!.uses[0]!.used).toBe(89);
  // A minute in which no port was in use is one, too.
  expect(history.kept.at(-1)!.uses).toEqual([]);
  const times = history.kept.map(({ at }) => at);
  expect(times).toEqual(times.toSorted());
});

test("it looks at once, never twice at the same time, and no more when it is closed, whatever a look ends with", async () => {
  const looks: (() => void)[] = [];
  const { history } = scene(
    () => new Promise<void>((_, reject) => looks.push(() => reject(new Error("no table")))),
  );
  while (looks.length === 0) await Bun.sleep(1);
  await Bun.sleep(20);
  expect(looks).toHaveLength(1);
  history[Symbol.dispose]();
  looks[0]!();
  await Bun.sleep(20);
  expect(looks).toHaveLength(1);
});
