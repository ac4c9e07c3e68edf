/** The scan that makes no objects, held to the attribute tables that do. */
import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { ipText } from "../../../src/address/ip.ts";
import type { ConntrackTuple } from "../../../src/linux/conntrack/entry.ts";
import { RepeatGuard } from "../../../src/linux/conntrack/repeat-guard.ts";
import type { EntryScan, TupleScan } from "../../../src/linux/conntrack/scan.ts";
import { stateName } from "../../../src/linux/conntrack/status.ts";
import { DecodeError, Wire } from "../../../src/linux/netlink/wire.ts";
import { decodeEntry, description, encodeDescription, scanOf } from "./arbitrary.ts";

/** What a scan says, in the shape of an entry's tuple. */
function tupleOfScan(scan: EntryScan, tuple: TupleScan): ConntrackTuple {
  const length = scan.family === 4 ? 4 : 16;
  const address = (at: number): string => ipText(scan.wire.bytes, at, at + length);
  const isIcmp = tuple.icmpType >= 0;
  return {
    source: address(tuple.source),
    destination: address(tuple.destination),
    protocol: tuple.protocol,
    ...(tuple.sourcePort < 0 ? {} : { [isIcmp ? "icmpId" : "sourcePort"]: tuple.sourcePort }),
    ...(tuple.destinationPort < 0 ? {} : { destinationPort: tuple.destinationPort }),
    ...(isIcmp ? { icmpType: tuple.icmpType, icmpCode: tuple.icmpCode } : {}),
    ...(tuple.zone < 0 ? {} : { zone: tuple.zone }),
  };
}

function summaryOfScan(scan: EntryScan): object {
  const { wire, original } = scan;
  const labels = [];
  for (let bit = 0; bit < (scan.labelsEnd - scan.labelsStart) * 8; bit++) {
    if ((wire.bytes[scan.labelsStart + (bit >> 3)]! & (1 << (bit & 7))) !== 0) labels.push(bit);
  }
  return {
    family: scan.family,
    original: tupleOfScan(scan, original),
    reply: tupleOfScan(scan, scan.reply),
    status: scan.status,
    state: scan.state < 0 ? undefined : stateName(original.protocol, scan.state),
    timeoutSeconds: scan.timeoutSeconds < 0 ? undefined : scan.timeoutSeconds,
    mark: scan.mark,
    zone: scan.zone,
    id: scan.id,
    counters: scan.hasCounters
      ? {
          original: { packets: scan.originalPackets, bytes: scan.originalBytes },
          reply: { packets: scan.replyPackets, bytes: scan.replyBytes },
        }
      : undefined,
    startedAtMs: scan.startedAtMs < 0 ? undefined : scan.startedAtMs,
    helper:
      scan.helperStart < 0
        ? undefined
        : new TextDecoder().decode(wire.bytes.subarray(scan.helperStart, scan.helperEnd)),
    labels: scan.labelsStart < 0 ? undefined : labels,
  };
}

describe("EntryScan", () => {
  test("reads what the attribute tables read", () => {
    fc.assert(
      fc.property(description, (value) => {
        const bytes = encodeDescription(value);
        const entry = decodeEntry(bytes);
        const { family, original, reply, status, state, timeoutSeconds, mark, zone, id } = entry;
        const { counters, startedAtMs, helper, labels } = entry;
        expect(summaryOfScan(scanOf(bytes))).toEqual({
          family,
          original,
          reply,
          status,
          state,
          timeoutSeconds,
          mark,
          zone,
          id,
          counters,
          startedAtMs,
          helper,
          labels: labels === undefined ? undefined : [...labels],
        });
        expect(scanOf(bytes).entry()).toEqual(entry);
      }),
      { numRuns: 1000 },
    );
  });

  test("a scan that pointed at one entry carries nothing over to the next", () => {
    fc.assert(
      fc.property(description, description, (first, second) => {
        const scan = scanOf(encodeDescription(first));
        const bytes = encodeDescription(second);
        scan.point(new Wire(bytes), 0, bytes.length);
        expect(summaryOfScan(scan)).toEqual(summaryOfScan(scanOf(bytes)));
      }),
      { numRuns: 300 },
    );
  });

  test("bytes that are cut short or damaged give an entry or a DecodeError, and nothing else", () => {
    const damage = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 });
    fc.assert(
      fc.property(description, fc.nat(), damage, (value, cut, flips) => {
        const whole = encodeDescription(value);
        const bytes = whole.slice(0, cut % (whole.length + 1));
        for (const [at, byte] of flips) if (bytes.length > 0) bytes[at % bytes.length] = byte;
        for (const read of [scanOf, decodeEntry]) {
          try {
            read(bytes);
          } catch (error) {
            expect(error).toBeInstanceOf(DecodeError);
          }
        }
      }),
      { numRuns: 3000 },
    );
  });

  test("keys differ where only the ports do, although the kernel's ids are equal", () => {
    const keys = new Set<number>();
    for (let port = 0; port < 2000; port++) {
      const tuple = { number: 6, sourcePort: port, destinationPort: 443 };
      const ip = { v4Source: "10.0.0.1", v4Destination: "198.51.100.80" };
      const reply = { ip: { v4Source: ip.v4Destination, v4Destination: ip.v4Source }, proto: { number: 6 } };
      const attributes = { original: { ip, proto: tuple }, reply, status: 0, id: 7 };
      keys.add(scanOf(encodeDescription({ family: 2, attributes })).key);
    }
    expect(keys.size).toBeGreaterThan(1990);
  });
});

describe("RepeatGuard", () => {
  const first = new Wire(new Uint8Array(16));
  const second = new Wire(new Uint8Array(16));

  test("lets an entry pass once when a hash bucket is begun again", () => {
    const guard = new RepeatGuard();
    for (const key of [1, 2, 3, 4, 5]) expect(guard.isNew(first, key)).toBe(true);
    // 5 had vanished: its bucket, 3 4 5, comes again with a newcomer in front.
    expect([9, 3, 4, 6].map((key) => guard.isNew(second, key))).toEqual([true, false, false, true]);
  });

  test("says nothing about equal keys within a datagram or far into the next", () => {
    const guard = new RepeatGuard();
    for (const key of [1, 1, 2]) expect(guard.isNew(first, key)).toBe(true);
    for (let key = 100; key < 120; key++) expect(guard.isNew(second, key)).toBe(true);
    expect(guard.isNew(second, 1)).toBe(true);
  });
});
