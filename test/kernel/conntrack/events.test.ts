/** Events of the connection tracking table, against conntrack -E and against a queue that overflows. */
import { expect, test as plainTest } from "bun:test";
import * as fc from "fast-check";
import { Conntrack } from "../../../src/kernel/conntrack/conntrack.ts";
import { ConntrackEvents, type ConntrackEventKind } from "../../../src/kernel/conntrack/events.ts";
import { IPCTNL_MSG_CT_DELETE, IPCTNL_MSG_CT_NEW } from "../../../src/linux/conntrack/attributes.ts";
import { SystemError } from "../../../src/linux/errno.ts";
import { NLM_F_CREATE, NLM_F_EXCL } from "../../../src/linux/netlink/message.ts";
import type { NetlinkTransport } from "../../../src/kernel/netlink/transport.ts";
import { ask, testWith } from "../../support/witness.ts";
import { decodeEntry, description, encodeDescription } from "./arbitrary.ts";
import { MADE, makeEntries, trackingNamespace } from "./tracked-world.ts";

const test = testWith(["root", "conntrack", "nft", "ip"]);

test("the same events in the same order as conntrack -E prints them", async () => {
  const namespace = trackingNamespace();
  using events = ConntrackEvents.open({ namespace });
  const witness = namespace.run(() =>
    Bun.spawn(["conntrack", "-E", "-o", "id", "-b", "8388608"], { stdout: "pipe", stderr: "ignore" }),
  );
  try {
    // It is listening when it hears the first of these.
    let heard = "";
    const reader = witness.stdout.getReader();
    const hear = async (done: () => boolean): Promise<void> => {
      while (!done()) {
        const { value, done: ended } = await reader.read();
        if (ended) throw new Error(`conntrack -E ended after: ${heard}`);
        heard += new TextDecoder().decode(value);
      }
    };
    const probe = ["-p", "udp", "-s", "192.0.2.1", "-d", "192.0.2.2", "--sport", "1"];
    let probes = 0;
    const probing = setInterval(() => {
      ask(namespace, ["conntrack", "-I", "-t", "100", ...probe, "--dport", String(++probes)]);
    }, 50);
    await hear(() => heard.includes("192.0.2.1"));
    clearInterval(probing);
    makeEntries(namespace);
    ask(namespace, ["conntrack", "-U", "-p", "tcp", "-s", "10.0.0.1", "--mark", "99"]);
    ask(namespace, ["conntrack", "-F"]);
    const ours: string[] = [];
    events.read((kind, scan) => {
      if (scan.entry().original.source !== "192.0.2.1") ours.push(`${kind} ${scan.id}`);
    }, 1000);
    expect(ours).toHaveLength(2 * MADE.length + 1);
    const theirs = (): string[] =>
      heard
        .split("\n")
        .filter((line) => line.includes(" id=") && !line.includes("192.0.2.1"))
        .map((line) => {
          const [, kind, id] = /\[(\w+)\].* id=(\d+)/.exec(line)!;
          return `${kind!.toLowerCase()} ${id}`;
        });
    await hear(() => theirs().length >= ours.length);
    expect(ours).toEqual(theirs());
  } finally {
    witness.kill();
    await witness.exited;
  }
});

test("only the kinds that were asked for are heard", () => {
  const namespace = trackingNamespace();
  using events = ConntrackEvents.open({ namespace, kinds: ["destroy"] });
  makeEntries(namespace);
  ask(namespace, ["conntrack", "-F"]);
  const kinds = new Set<ConntrackEventKind>();
  const { events: count, overrun } = events.read((kind) => kinds.add(kind), 1000);
  expect({ kinds: [...kinds], count, overrun }).toEqual({
    kinds: ["destroy"],
    count: MADE.length,
    overrun: false,
  });
});

test("a full queue is told as an overrun, with the number of events that were lost", () => {
  const namespace = trackingNamespace();
  // The least that the kernel gives is room for a few events.
  using events = ConntrackEvents.open({ namespace, receiveBufferBytes: 1 });
  makeEntries(namespace);
  ask(namespace, ["conntrack", "-F"]);
  const seen: string[] = [];
  const { events: count, overrun } = events.read((kind) => seen.push(kind), 1000);
  expect(overrun).toBe(true);
  expect(seen).toHaveLength(count);
  expect(count + events.dropped()!).toBe(2 * MADE.length);
  // The queue works again once it was read.
  ask(namespace, ["conntrack", "-I", "-t", "1000", ...MADE[0]!]);
  expect(events.read(() => undefined, 1000)).toEqual({ events: 1, overrun: false });
  using table = Conntrack.open(namespace);
  expect(table.entries()).toHaveLength(1);
});

/** Hands over prepared datagrams; "ENOBUFS" stands for an overrun. */
class PreparedTransport implements NetlinkTransport {
  constructor(readonly queue: (Uint8Array | "ENOBUFS")[]) {}
  send(): void {}
  join(): void {}
  close(): void {}
  receive(): Uint8Array | undefined {
    const next = this.queue.shift();
    if (next === "ENOBUFS") throw new SystemError("recv", 105);
    return next;
  }
}

plainTest("any order of events and overruns is read to its end", () => {
  const kinds: Record<ConntrackEventKind, readonly [number, number]> = {
    new: [IPCTNL_MSG_CT_NEW.type, NLM_F_CREATE | NLM_F_EXCL],
    update: [IPCTNL_MSG_CT_NEW.type, 0],
    destroy: [IPCTNL_MSG_CT_DELETE.type, 0],
  };
  const event = fc.record({
    kind: fc.constantFrom(...(Object.keys(kinds) as ConntrackEventKind[])),
    description,
  });
  fc.assert(
    fc.property(
      fc.array(fc.oneof({ weight: 9, arbitrary: event }, fc.constant("ENOBUFS" as const))),
      (items) => {
        const queue = items.map((item) => {
          if (item === "ENOBUFS") return item;
          const payload = encodeDescription(item.description);
          const datagram = new Uint8Array(16 + payload.length);
          const view = new DataView(datagram.buffer);
          view.setUint32(0, datagram.length, true);
          view.setUint16(4, kinds[item.kind][0], true);
          view.setUint16(6, kinds[item.kind][1], true);
          datagram.set(payload, 16);
          return datagram;
        });
        const expected = items.flatMap((item) =>
          item === "ENOBUFS"
            ? []
            : [{ kind: item.kind, entry: decodeEntry(encodeDescription(item.description)) }],
        );
        const events = new ConntrackEvents(new PreparedTransport([...queue]));
        const got: object[] = [];
        const read = events.read((kind, scan) => got.push({ kind, entry: scan.entry() }), 0);
        expect(got).toEqual(expected);
        expect(read).toEqual({ events: expected.length, overrun: items.includes("ENOBUFS") });
      },
    ),
    { numRuns: 100 },
  );
});
