/** When the agent looks, with looks that the test answers itself. */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Answered } from "../../src/agent/api/ask-self.ts";
import { Historian } from "../../src/agent/historian.ts";
import { cutValue } from "../../src/agent/journal/parts.ts";
import { Journal, type JournalEvent } from "../../src/agent/journal/journal.ts";
import type { Look } from "../../src/agent/look/look.ts";
import { Looks } from "../../src/agent/look/looks.ts";
import { NetworkNotes } from "../../src/agent/network-notes.ts";
import { afterThisTest } from "../support/teardown.ts";

const TIMES = { settleMs: 1, keepMs: 5, savedMs: 60_000, rest: 20, idleMs: 600_000 };
const RULES = { kind: "rules", generation: 7, pid: 1, process: "firewalld" } as const;

function answer(healthy: boolean): Answered {
  const findings = healthy ? [] : [{ code: "forward-dropped", text: "dropped", stopsTraffic: true } as const];
  const look = {
    snapshot: cutValue({ healthy }),
    ends: [],
    verdicts: [{ pod: "blue", healthy, blind: false, answer: "fine", findings }],
  } as unknown as Look;
  return { exitCode: 0, stdout: JSON.stringify(look), stderr: "" };
}

/** Looks whose answers are given one by one. */
class Scene {
  readonly events: JournalEvent[] = [];
  readonly log: string[] = [];
  #asked: ((answered: Answered) => void)[] = [];
  #waiting: (() => void) | undefined;
  looks = 0;
  readonly historian = new Historian(
    undefined,
    new NetworkNotes(() => ({ links: [], addresses: [], routes: [] })),
    (event) => void this.events.push(event),
  );
  readonly agent: Looks;

  constructor(journal?: Journal, times = TIMES) {
    this.agent = new Looks(
      {
        run: async () => {
          this.looks++;
          return new Promise((resolve) => {
            this.#asked.push(resolve);
            this.#waiting?.();
          });
        },
        log: { write: (level, event) => void this.log.push(`${level} ${event}`) },
        historian: this.historian,
        journal,
        looked: () => {},
      },
      times,
    );
    afterThisTest(() => this.agent.stop());
  }

  /** When a look is under way. @returns how many are */
  async begun(): Promise<number> {
    if (this.#asked.length === 0) await new Promise<void>((resolve) => (this.#waiting = resolve));
    return this.#asked.length;
  }

  /** Answers the look that is under way, or the next one. @returns how many were under way */
  async answers(answered: Answered): Promise<number> {
    const underWay = await this.begun();
    this.#asked.shift()!(answered);
    await Bun.sleep(0);
    return underWay;
  }

  change(): void {
    this.historian.event(RULES);
    this.agent.event(RULES);
  }
}

test("many changes are one look, never two at once", async () => {
  const scene = new Scene();
  expect(await scene.answers(answer(true))).toBe(1);
  for (let times = 0; times < 50; times++) scene.change();
  expect(await scene.answers(answer(false))).toBe(1);
  expect(scene.looks).toBe(2);
  const told = scene.events.filter(({ kind }) => kind === "way-out");
  expect(told).toMatchObject([
    { object: "blue", text: "1 pod lost its way out", by: { process: "firewalld" } },
  ]);
  scene.change();
  expect(await scene.answers(answer(true))).toBe(1);
  expect(scene.events.at(-1)).toMatchObject({ kind: "way-out", text: "1 pod has its way out again" });
});

test("what changes in the middle of a look is looked at again before anything is told; where that never ends, every second one counts", async () => {
  const scene = new Scene();
  await scene.answers(answer(true));
  scene.change();
  const told: (readonly string[])[] = [];
  for (const healthy of [false, false, true, true]) {
    await scene.begun();
    scene.change();
    await scene.answers(answer(healthy));
    told.push(scene.events.filter(({ kind }) => kind === "way-out").map(({ text }) => text));
  }
  const [lost, back] = ["1 pod lost its way out", "1 pod has its way out again"];
  expect(told).toEqual([[], [lost], [lost], [lost, back]]);
});

test("each time that pods lose or gain their way out is on a snapshot, however soon after the last", async () => {
  const directory = mkdtempSync(join(tmpdir(), "wayout-looks-"));
  afterThisTest(() => rmSync(directory, { recursive: true, force: true }));
  using journal = Journal.write(join(directory, "journal.db"));
  const scene = new Scene(journal, { ...TIMES, keepMs: 600_000 });
  await scene.answers(answer(true));
  for (let times = 0; times < 16; times++) {
    scene.change();
    await scene.answers(answer(times % 2 === 1));
    // Events of one millisecond are of one snapshot.
    await Bun.sleep(2);
  }
  const told = scene.events.filter(({ kind }) => kind === "way-out");
  expect(told).toHaveLength(16);
  for (const { at, text } of told)
    expect(journal.snapshotAt(at)).toEqual({ at, snapshot: { healthy: text.includes("again") } });
});

test("a look that fails is told once, and compares with the last that did not", async () => {
  const scene = new Scene();
  await scene.answers(answer(true));
  const failure = { exitCode: 3, stdout: "", stderr: "no privilege" };
  for (let times = 0; times < 2; times++) {
    scene.change();
    await scene.answers(failure);
  }
  expect(scene.log).toEqual(["error look"]);
  scene.change();
  await scene.answers(answer(false));
  expect(scene.log).toEqual(["error look", "warn way-out", "info look"]);
  expect(scene.events.at(-1)).toMatchObject({ kind: "way-out", text: "1 pod lost its way out" });
});

test("what is broken when the agent begins is told, and what is well is not", async () => {
  const well = new Scene();
  await well.answers(answer(true));
  expect(well.events).toEqual([]);
  const broken = new Scene();
  await broken.answers(answer(false));
  expect(broken.events).toMatchObject([
    { kind: "way-out", object: "blue", text: "when the agent began: 1 pod lost its way out" },
  ]);
});
