/** When the node is drawn anew, and when an older picture will do. */
import { expect, test } from "bun:test";
import type { Answer } from "../../src/agent/api/answer.ts";
import { Pictures } from "../../src/agent/picture/pictures.ts";
import type { NodePicture } from "../../src/agent/picture/picture.ts";

function scene() {
  let clock = 0;
  const open: ((answer: Answer) => void)[] = [];
  const pictures = new Pictures(
    () => new Promise<Answer>((resolve) => open.push(resolve)),
    () => clock,
  );
  const answer = (value: string, status = 200): Answer => ({ kind: "json", value, status });
  /** As it is kept: written once. */
  const kept = (value: string): Answer => ({
    kind: "text",
    text: JSON.stringify(value),
    type: "application/json",
  });
  return { pictures, open, answer, kept, pass: (ms: number) => (clock += ms) };
}

test("who asks for the present gets what was begun afterwards, and many who wait share one drawing", async () => {
  const { pictures, open, answer, pass } = scene();
  const first = pictures.get(0);
  pass(10);
  const [second, third] = [pictures.get(0), pictures.get(0)];
  expect(open).toHaveLength(1);
  open[0]!(answer("one"));
  expect(await first).toEqual(answer("one"));
  await Bun.sleep(0);
  expect(open).toHaveLength(2);
  open[1]!(answer("two"));
  expect([await second, await third]).toEqual([answer("two"), answer("two")]);
  expect(open).toHaveLength(2);
});

test("an older one is given to those who take it, from a drawing or from the agent's own look", async () => {
  const { pictures, open, answer, kept, pass } = scene();
  const first = pictures.get(5_000);
  const shared = pictures.get(5_000);
  open[0]!(answer("one"));
  expect([await first, await shared]).toEqual([answer("one"), answer("one")]);
  pass(4_000);
  expect(await pictures.get(5_000)).toEqual(kept("one"));
  pictures.seen("looked" as unknown as NodePicture, 3_000);
  expect(await pictures.get(5_000)).toEqual(kept("looked"));
  expect(pictures.lastText).toBe('"looked"');
  pass(10_000);
  void pictures.get(5_000);
  expect(open).toHaveLength(2);
});

test("what was refused is no picture, and the next one is asked again", async () => {
  const { pictures, open, answer } = scene();
  const first = pictures.get(9_000);
  open[0]!(answer("refused", 503));
  expect(await first).toEqual(answer("refused", 503));
  await Bun.sleep(0);
  void pictures.get(9_000);
  expect(open).toHaveLength(2);
});
