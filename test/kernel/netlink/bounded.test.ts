/** Lists that are given up: the work that is still asked of the kernel is counted. */
import { expect, test } from "bun:test";
import { bounded } from "../../../src/kernel/netlink/bounded.ts";
import type { NetlinkTransport } from "../../../src/kernel/netlink/transport.ts";
import { ERRNO } from "../../../src/linux/errno.ts";

const PART = new Uint8Array(1000);

/** A kernel whose every list is endless, as long as somebody goes on reading it. */
class Endless {
  opened = 0;
  closed = 0;
  parts = 0;

  open(): NetlinkTransport {
    this.opened++;
    return {
      send: () => {},
      receive: () => {
        this.parts++;
        return PART;
      },
      join: () => {},
      close: () => void this.closed++,
    };
  }
}

/** How many parts were taken until it was given up; the error's text. */
function readAll(transport: NetlinkTransport): readonly [number, string] {
  transport.send(new Uint8Array(16));
  for (let taken = 0; ; taken++) {
    try {
      if (transport.receive(0) === undefined) return [taken, ""];
    } catch (error) {
      expect(error).toMatchObject({ errno: ERRNO.EFBIG });
      return [taken, String(error)];
    }
  }
}

test("of a list without an end no more is asked for than the limit; the next question gets a socket of its own", () => {
  const kernel = new Endless();
  const transport = bounded(() => kernel.open(), { mostBytes: 10_000, mostCpuMs: Infinity });
  expect(kernel.opened).toBe(0);
  for (const opened of [1, 2]) {
    expect(readAll(transport)[0]).toBe(10);
    expect(kernel).toMatchObject({ opened, closed: opened, parts: 11 * opened });
    // Nor by who wants to empty the queue.
    expect(transport.receive(0)).toBeUndefined();
    expect(kernel.parts).toBe(11 * opened);
  }
});

test("all questions together have a limit, too", () => {
  const kernel = new Endless();
  const transport = bounded(() => kernel.open(), { mostBytes: 10_000, mostCpuMs: Infinity });
  const taken = Array.from({ length: 8 }, () => readAll(transport)[0]);
  expect(taken).toEqual([10, 10, 10, 7, 0, 0, 0, 0]);
});

test("a list that the kernel makes slowly is given up by the time that it took, whoever else is at work", () => {
  const kernel = new Endless();
  const transport = bounded(
    () => kernel.open(),
    { mostBytes: 1 << 30, mostCpuMs: 50 },
    () => 4 * kernel.parts,
  );
  const [taken, said] = readAll(transport);
  expect(taken).toBe(12);
  expect(said).toContain("that took more than 50 ms, which was given up");
  expect(kernel).toMatchObject({ parts: 13, closed: 1 });
  // What is asked next has no time left.
  expect(readAll(transport)[0]).toBe(0);
});
