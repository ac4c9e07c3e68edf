/** Text written straight from the kernel's bytes, held to the text composed from values. */
import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { ipText } from "../../src/address/ip.ts";
import { decimalLength, phrase, writeAddress, writeDecimal } from "../../src/flows/byte-text.ts";
import { flowLine } from "../../src/flows/flow-line.ts";
import { FlowPrinter } from "../../src/flows/flow-printer.ts";
import { EntryScan } from "../../src/linux/conntrack/scan.ts";
import { Wire } from "../../src/linux/netlink/wire.ts";
import { kernelText } from "../support/arbitrary.ts";
import { decodeEntry, description, encodeDescription, scanOf } from "../kernel/conntrack/arbitrary.ts";

const NOW_MS = 1_800_000_000_000;

const podIndex = fc
  .dictionary(
    fc.constantFrom("10.0.0.1", "10.0.0.2", "fd00::2", "2001:db8::1", "::ffff:10.0.0.1"),
    kernelText,
  )
  .map((names) => new Map(Object.entries(names)));

describe("FlowPrinter", () => {
  test("prints the same bytes as flowLine, for any flow and any pods", () => {
    fc.assert(
      fc.property(
        fc.array(description, { maxLength: 20 }),
        podIndex,
        fc.integer({ min: 1, max: 5000 }),
        (values, pods, bufferBytes) => {
          const context = { pods, nowMs: NOW_MS };
          const encoded = values.map((value) => encodeDescription(value));
          const written: string[] = [];
          // A small buffer is flushed, and grown, in the midst.
          const printer = new FlowPrinter(
            context,
            (bytes) => written.push(Buffer.from(bytes).toString()),
            bufferBytes,
          );
          const scan = new EntryScan();
          for (const bytes of encoded) {
            scan.point(new Wire(bytes), 0, bytes.length);
            printer.print(scan);
          }
          printer.flush();
          const expected = encoded.map((bytes) => `${flowLine(decodeEntry(bytes), context)}\n`);
          expect(written.join("")).toBe(expected.join(""));
        },
      ),
      { numRuns: 500 },
    );
  });

  test("puts a tag in front of a line, and writes nothing for nothing", () => {
    const written: string[] = [];
    const printer = new FlowPrinter({ pods: new Map(), nowMs: 0 }, (bytes) =>
      written.push(Buffer.from(bytes).toString()),
    );
    printer.flush();
    expect(written).toEqual([]);
    const ip = { v4Source: "10.0.0.1", v4Destination: "198.51.100.80" };
    const proto = { number: 17, sourcePort: 5432, destinationPort: 53 };
    const reply = {
      ip: { v4Source: "198.51.100.80", v4Destination: "203.0.113.5" },
      proto: { number: 17, sourcePort: 53, destinationPort: 5432 },
    };
    const attributes = { original: { ip, proto }, reply, status: 0, id: 1, timeout: 30 };
    printer.print(scanOf(encodeDescription({ family: 2, attributes })), phrase("new      "));
    printer.flush();
    expect(written.join("")).toBe(
      "new      udp    unreplied       30s  10.0.0.1:5432 ↔ 203.0.113.5:5432 → 198.51.100.80:53\n",
    );
  });
});

describe("text in bytes", () => {
  const write = (run: (view: DataView) => number): string => {
    const bytes = new Uint8Array(128);
    return Buffer.from(bytes.subarray(0, run(new DataView(bytes.buffer)))).toString();
  };

  test("numbers up to 2^53", () => {
    const number = fc.oneof(fc.nat(100_000), fc.nat(Number.MAX_SAFE_INTEGER));
    fc.assert(
      fc.property(number, (value) => {
        expect(write((view) => writeDecimal(view, 0, value))).toBe(String(value));
        expect(decimalLength(value)).toBe(String(value).length);
      }),
    );
  });

  test("addresses as ipText has them", () => {
    const groups = fc.array(fc.oneof(fc.constant(0), fc.nat(0xffff)), { minLength: 8, maxLength: 8 });
    const v6 = groups.map((list) => Uint8Array.from(list.flatMap((group) => [group >> 8, group & 255])));
    const v4 = fc.uint8Array({ minLength: 4, maxLength: 4 });
    fc.assert(
      fc.property(fc.oneof(v4, v6), (bytes) => {
        expect(write((view) => writeAddress(view, 0, bytes, 0, bytes.length === 16))).toBe(ipText(bytes));
      }),
      { numRuns: 2000 },
    );
  });
});
