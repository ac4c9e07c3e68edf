/** Answers that are none: forged, of somebody else, cut, too long, in a circle. */
import { describe, expect, test } from "bun:test";
import { assert, integer, property, uint8Array } from "fast-check";
import { encode, type Answer, type Packet } from "dns-packet";
import { question, readAnswer } from "../../src/trace/observe/dns-message.ts";

const ASKED = { id: 77, name: "api.example", family: 4 } as const;
const A = (name: string, data: string): Answer => ({ type: "A", name, data });
const CNAME = (name: string, data: string): Answer => ({ type: "CNAME", name, data });

/** dns-packet's flag for a response, less its response code. */
const RESPONSE = 0x8180 & ~0x8000;

function response(answers: readonly Answer[], change: Partial<Packet> = {}): Uint8Array {
  return encode({
    type: "response",
    id: ASKED.id,
    flags: RESPONSE,
    questions: [{ type: "A", name: ASKED.name }],
    answers: [...answers],
    ...change,
  });
}

test("an address, by its own name or through aliases", () => {
  expect(readAnswer(response([A("api.example", "198.51.100.9")]), ASKED)).toEqual({
    kind: "address",
    address: "198.51.100.9",
  });
  expect(readAnswer(response([A("API.Example", "198.51.100.9")]), ASKED)).toMatchObject({ kind: "address" });
  const chain = [
    CNAME("api.example", "b.example"),
    A("c.example", "198.51.100.9"),
    CNAME("b.example", "c.example"),
  ];
  expect(readAnswer(response(chain), ASKED)).toEqual({ kind: "address", address: "198.51.100.9" });
});

describe("is no answer to the question", () => {
  for (const [what, message] of Object.entries({
    "another id": response([A("api.example", "198.51.100.9")], { id: 78 }),
    "a question instead of a response": response([], { type: "query" }),
    "another name asked": response([A("other.example", "198.51.100.9")], {
      questions: [{ type: "A", name: "other.example" }],
    }),
    "another type asked": response([A("api.example", "198.51.100.9")], {
      questions: [{ type: "AAAA", name: "api.example" }],
    }),
    "no question": response([A("api.example", "198.51.100.9")], { questions: [] }),
    "something left over": new Uint8Array([...response([A("api.example", "198.51.100.9")]), 0]),
    "cut off": response([A("api.example", "198.51.100.9")]).subarray(0, -2),
    nothing: new Uint8Array(),
  })) {
    test(what, () => expect(readAnswer(message, ASKED)).toBeUndefined());
  }
});

test("records of other names, of another class, or of another length say nothing", () => {
  expect(readAnswer(response([A("other.example", "198.51.100.9")]), ASKED)).toEqual({
    kind: "none",
    said: "no A record",
  });
  const chaos = response([{ ...A("api.example", "198.51.100.9"), class: "CH" } as Answer]);
  expect(readAnswer(chaos, ASKED)).toEqual({ kind: "none", said: "no A record" });
  const sixteen = Buffer.from(response([A("api.example", "198.51.100.9")]));
  sixteen.writeUInt16BE(16, sixteen.length - 6);
  expect(readAnswer(new Uint8Array([...sixteen, ...new Uint8Array(12)]), ASKED)?.kind).not.toBe("address");
});

test("aliases in a circle end, a refusal is told, and a cut answer asks for TCP", () => {
  const circle = response([CNAME("api.example", "b.example"), CNAME("b.example", "api.example")]);
  expect(readAnswer(circle, ASKED)).toEqual({ kind: "none", said: "more than 8 aliases" });
  expect(readAnswer(response([], { flags: RESPONSE | 3 }), ASKED)).toEqual({
    kind: "none",
    said: "no such name",
  });
  expect(readAnswer(response([], { flags: RESPONSE | 0x200 }), ASKED)).toEqual({ kind: "truncated" });
});

test("no bytes whatever break it, and none but an answer is believed", () => {
  const right = response([A("api.example", "198.51.100.9")]);
  assert(
    property(uint8Array({ maxLength: 300 }), (bytes) => {
      expect(readAnswer(bytes, ASKED)?.kind).not.toBe("address");
    }),
    { numRuns: 2000 },
  );
  assert(
    property(integer({ min: 0, max: right.length - 1 }), integer({ min: 1, max: 255 }), (at, flip) => {
      const wrong = right.slice();
      wrong[at]! ^= flip;
      readAnswer(wrong, ASKED);
    }),
    { numRuns: 2000 },
  );
});

test("names that DNS cannot hold are refused before anything is sent", () => {
  for (const name of ["", "a..b", ".", `${"a".repeat(64)}.org`, `${"a.".repeat(130)}b`]) {
    expect(() => question(1, name, 4)).toThrow("no name in DNS");
  }
});
