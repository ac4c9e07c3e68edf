/** Counters, as they stand in the files and as they really count. */
import { expect, test } from "bun:test";
import * as fc from "fast-check";
import {
  counterGrowth,
  cpuStatistics,
  networkCounters,
  parseCpuStatistics,
  parseSnmp,
  parseSnmp6,
  sumCpuStatistics,
} from "../../src/kernel/procfs.ts";
import { writeSysctl } from "../../src/kernel/sysctl.ts";
import { ask, run, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";

test("snmp and netstat: pairs of lines, negative and huge numbers, unknown groups", () => {
  const text = [
    "Ip: Forwarding DefaultTTL ForwDatagrams",
    "Ip: 2 64 18446744073709551615",
    "Tcp: MaxConn CurrEstab",
    "Tcp: -1 3",
    "MPTcpExt: New",
    "MPTcpExt: 7",
    "",
  ].join("\n");
  expect(parseSnmp(text)).toEqual({
    "Ip.Forwarding": 2,
    "Ip.DefaultTTL": 64,
    "Ip.ForwDatagrams": 2 ** 64,
    "Tcp.MaxConn": -1,
    "Tcp.CurrEstab": 3,
    "MPTcpExt.New": 7,
  });
});

test("snmp6: a counter a line, its group before its name", () => {
  expect(
    parseSnmp6("Ip6InReceives   \t12\nIcmp6OutType133 \t2\nUdpLite6InErrors\t1\nUdp6NoPorts\t0\n"),
  ).toEqual({
    "Ip6.InReceives": 12,
    "Icmp6.OutType133": 2,
    "UdpLite6.InErrors": 1,
    "Udp6.NoPorts": 0,
  });
});

test("statistics of CPUs are hexadecimal; what all share is not added up", () => {
  const cpus = parseCpuStatistics(
    "entries  clashres drop insert_failed\n0000001f  00000001 0000000a 00000000\n0000001f  00000002 00000010 00000001\n",
  );
  expect(cpus).toEqual([
    { entries: 31, clashres: 1, drop: 10, insert_failed: 0 },
    { entries: 31, clashres: 2, drop: 16, insert_failed: 1 },
  ]);
  expect(sumCpuStatistics(cpus)).toEqual({ entries: 31, clashres: 3, drop: 26, insert_failed: 1 });
});

test("growth tells what changed and nothing else", () => {
  expect(counterGrowth({ a: 1, b: 2, c: 3 }, { a: 1, b: 5, d: 4 })).toEqual({ b: 3, d: 4 });
});

test("any text is read as far as it makes sense", () => {
  const noise = fc.string({
    unit: fc.constantFrom("Ip:", " ", "\n", "\t", "Name", "12", "-1", "ff", "xyz", "\0"),
  });
  fc.assert(
    fc.property(noise, (text) => {
      for (const counters of [parseSnmp(text), parseSnmp6(text), ...parseCpuStatistics(text)]) {
        for (const value of Object.values(counters)) expect(Number.isFinite(value)).toBe(true);
      }
    }),
  );
});

testWith(["root", "ping"])("the counters of a namespace count what happens there", () => {
  const [here, there] = [freshNamespace(), freshNamespace()];
  const before = networkCounters(here);
  expect(before["Ip.Forwarding"]).toBe(2);
  writeSysctl(here, "net.ipv4.ip_forward", "1");
  ask(here, ["ping", "-c", "3", "-i", "0.01", "127.0.0.1"]);
  run(here, ["ping", "-c", "1", "-W", "1", "192.0.2.1"]);
  const growth = counterGrowth(before, networkCounters(here));
  expect(growth).toMatchObject({ "Icmp.InEchos": 3, "Icmp.OutEchoReps": 3, "Ip.Forwarding": -1 });
  expect(growth["Ip.OutNoRoutes"]).toBeGreaterThan(0);
  expect(networkCounters(there)["Icmp.InEchos"]).toBe(0);
  expect(networkCounters(there)["Ip.Forwarding"]).toBe(2);
  expect(networkCounters(there)).toContainKeys([
    "Ip6.OutNoRoutes",
    "TcpExt.IPReversePathFilter",
    "IpExt.InNoRoutes",
  ]);
});

testWith(["root"])("connection tracking's statistics have a line for each CPU, or are not there", () => {
  const cpus = cpuStatistics(freshNamespace(), "nf_conntrack");
  if (cpus === undefined) return;
  expect(cpus.length).toBeGreaterThan(0);
  for (const cpu of cpus) expect(cpu).toContainKeys(["entries", "insert_failed", "drop", "early_drop"]);
});
