import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { flowState, podOf, translationOf, flowTranslationText } from "../../src/flows/flow.ts";
import { compileFlowFilter } from "../../src/flows/flow-filter.ts";
import { flowLine } from "../../src/flows/flow-line.ts";
import { flowRecord } from "../../src/flows/flow-record.ts";
import type { ConntrackEntry, ConntrackTuple } from "../../src/linux/conntrack/entry.ts";
import { IPS, statusFlags } from "../../src/linux/conntrack/status.ts";
import { protocolName, protocolNumber } from "../../src/linux/ip-protocol.ts";
import { decodeEntry, description, encodeDescription, scanOf } from "../kernel/conntrack/arbitrary.ts";

function entry(
  original: ConntrackTuple,
  reply: ConntrackTuple,
  more: Partial<ConntrackEntry> = {},
): ConntrackEntry {
  const { protocol } = original;
  const family = original.source.includes(":") ? 6 : 4;
  const base = {
    family,
    protocol,
    protocolName: protocolName(protocol),
    original,
    reply,
    mark: 0,
    zone: 0,
    id: 1,
  } as const;
  return { ...base, status: 0, flags: statusFlags(more.status ?? 0), ...more };
}

const tcp = (
  source: string,
  sourcePort: number,
  destination: string,
  destinationPort: number,
): ConntrackTuple => ({
  source,
  destination,
  protocol: 6,
  sourcePort,
  destinationPort,
});

describe("a flow as a translation", () => {
  const cases: readonly (readonly [string, ConntrackEntry, string])[] = [
    [
      "masqueraded",
      entry(tcp("10.0.0.1", 5432, "198.51.100.80", 443), tcp("198.51.100.80", 443, "203.0.113.5", 5432)),
      "10.0.0.1:5432 ↔ 203.0.113.5:5432 → 198.51.100.80:443",
    ],
    [
      "only its port translated",
      entry(tcp("203.0.113.5", 5432, "198.51.100.80", 443), tcp("198.51.100.80", 443, "203.0.113.5", 1024)),
      "203.0.113.5:5432 ↔ 203.0.113.5:1024 → 198.51.100.80:443",
    ],
    [
      "untranslated IPv6",
      entry(tcp("fd00::1", 1, "2001:db8::80", 443), tcp("2001:db8::80", 443, "fd00::1", 1)),
      "[fd00::1]:1 → [2001:db8::80]:443",
    ],
    [
      "to a service's address",
      entry(tcp("10.0.0.1", 1, "10.96.0.10", 53), tcp("10.0.0.7", 5353, "10.0.0.1", 1)),
      "10.0.0.1:1 → 10.96.0.10:53 ↔ 10.0.0.7:5353",
    ],
    [
      "both ways",
      entry(tcp("10.0.0.1", 1, "203.0.113.200", 80), tcp("198.51.100.80", 8080, "203.0.113.5", 2)),
      "10.0.0.1:1 ↔ 203.0.113.5:2 → 203.0.113.200:80 ↔ 198.51.100.80:8080",
    ],
    [
      "of ICMP",
      entry(
        {
          source: "10.0.0.1",
          destination: "198.51.100.80",
          protocol: 1,
          icmpId: 77,
          icmpType: 8,
          icmpCode: 0,
        },
        {
          source: "198.51.100.80",
          destination: "203.0.113.5",
          protocol: 1,
          icmpId: 78,
          icmpType: 0,
          icmpCode: 0,
        },
      ),
      "10.0.0.1#77 ↔ 203.0.113.5#78 → 198.51.100.80 type 8 code 0",
    ],
    [
      "of a protocol without ports",
      entry(
        { source: "10.0.0.1", destination: "198.51.100.80", protocol: 50 },
        { source: "198.51.100.80", destination: "203.0.113.5", protocol: 50 },
      ),
      "10.0.0.1 ↔ 203.0.113.5 → 198.51.100.80",
    ],
  ];
  for (const [name, flow, text] of cases) test(name, () => expect(flowTranslationText(flow)).toBe(text));

  test("says ↔ exactly where a side is translated", () => {
    fc.assert(
      fc.property(description, (value) => {
        const flow = decodeEntry(encodeDescription(value));
        const { sourceOutside, destinationReal } = translationOf(flow);
        const arrows = flowTranslationText(flow).split("↔").length - 1;
        expect(arrows).toBe(Number(sourceOutside !== undefined) + Number(destinationReal !== undefined));
        expect(JSON.parse(JSON.stringify(flowRecord(flow, new Map())))).toEqual(flowRecord(flow, new Map()));
      }),
    );
  });
});

test("the state of protocols without states is how far answers have come", () => {
  const state = (status: number): string => flowState({ protocol: 17, status });
  expect(state(0)).toBe("unreplied");
  expect(state(IPS.SEEN_REPLY)).toBe("replied");
  expect(state(IPS.SEEN_REPLY | IPS.ASSURED)).toBe("assured");
  expect(flowState({ protocol: 6, status: 0, state: "SYN_SENT" })).toBe("SYN_SENT");
  expect(flowState({ protocol: 6, status: IPS.OFFLOAD | IPS.SEEN_REPLY })).toBe("ESTABLISHED");
});

test("an offloaded flow, of which the kernel tells neither state nor time-out", () => {
  const ip = { v4Source: "10.0.0.1", v4Destination: "198.51.100.80" };
  const back = { v4Source: "198.51.100.80", v4Destination: "203.0.113.5" };
  const message = (flags: number): Uint8Array =>
    encodeDescription({
      family: 2,
      attributes: {
        original: { ip, proto: { number: 6, sourcePort: 5432, destinationPort: 443 } },
        reply: { ip: back, proto: { number: 6, sourcePort: 443, destinationPort: 5432 } },
        status: IPS.SEEN_REPLY | IPS.ASSURED | flags,
        id: 1,
      },
    });
  const offloaded = compileFlowFilter({ offloaded: true });
  for (const [flags, notes] of [
    [IPS.OFFLOAD, "offload"],
    [IPS.OFFLOAD | IPS.HW_OFFLOAD, "hw-offload offload"],
  ] as const) {
    const bytes = message(flags);
    expect(flowLine(decodeEntry(bytes), { pods: new Map(), nowMs: 0 })).toBe(
      `tcp    ESTABLISHED       -  10.0.0.1:5432 ↔ 203.0.113.5:5432 → 198.51.100.80:443  ${notes}`,
    );
    expect(offloaded.matches(scanOf(bytes))).toBe(true);
  }
  expect(offloaded.matches(scanOf(message(0)))).toBe(false);
});

test("a flow belongs to the pod that began it, or else to the one it leads to", () => {
  const pods = new Map([
    ["10.0.0.1", "blue"],
    ["10.0.0.7", "green"],
  ]);
  const inward = entry(tcp("198.51.100.80", 1, "203.0.113.5", 80), tcp("10.0.0.7", 80, "198.51.100.80", 1));
  const between = entry(tcp("10.0.0.1", 1, "10.0.0.7", 80), tcp("10.0.0.7", 80, "10.0.0.1", 1));
  expect(podOf(inward, pods)).toBe("green");
  expect(podOf(between, pods)).toBe("blue");
  expect(podOf(between, new Map())).toBeUndefined();
});

test("protocol names and numbers lead to each other", () => {
  for (let number = 0; number < 256; number++) expect(protocolNumber(protocolName(number))).toBe(number);
  expect([
    protocolNumber("TCP"),
    protocolNumber("17"),
    protocolNumber("256"),
    protocolNumber("blub"),
  ]).toEqual([6, 17, undefined, undefined]);
});
