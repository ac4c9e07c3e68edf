/** Following flows: nothing is missed in silence, also when the kernel's queue overflows. */
import { describe, expect, test as plainTest } from "bun:test";
import { compileFlowFilter } from "../../src/flows/flow-filter.ts";
import { FlowWatch, type FlowWatcher } from "../../src/flows/flow-watch.ts";
import { askingRule, trackingOf } from "../../src/flows/tracking.ts";
import { Conntrack } from "../../src/kernel/conntrack/conntrack.ts";
import { ConntrackEvents, type ConntrackEventKind } from "../../src/kernel/conntrack/events.ts";
import type { EntryScan } from "../../src/linux/conntrack/scan.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { makeEntries, MADE, trackingNamespace } from "../kernel/conntrack/tracked-world.ts";
import { ask, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";

const test = testWith(["root", "conntrack", "nft", "ip"]);

/** Writes down everything it is told. */
class Diary implements FlowWatcher {
  readonly lines: string[] = [];
  changed(kind: ConntrackEventKind, scan: EntryScan, missed: boolean): void {
    this.lines.push(`${kind}${missed ? "?" : ""} ${scan.original.sourcePort}`);
  }
  vanished(memory: Uint8Array): void {
    this.lines.push(`destroy? ${Buffer.from(memory).toString()}`);
  }
  remember(scan: EntryScan): Uint8Array {
    return Buffer.from(String(scan.original.sourcePort));
  }
  lost(count: number | undefined): void {
    this.lines.push(`lost ${count}`);
  }
  resynced(flows: number): void {
    this.lines.push(`resynced ${flows}`);
  }
  settled(): void {}
}

/** A UDP flow; its source port is its name. */
function insert(namespace: NetworkNamespace, port: number): void {
  const tuple = ["-s", "10.0.0.1", "-d", "198.51.100.80", "--sport", String(port), "--dport", "53"];
  ask(namespace, ["conntrack", "-I", "-p", "udp", "-t", "1000", ...tuple]);
}

function remove(namespace: NetworkNamespace, port: number): void {
  ask(namespace, ["conntrack", "-D", "-p", "udp", "--sport", String(port)]);
}

/** Many flows at once, fewer processes than `insert` takes. */
function insertMany(namespace: NetworkNamespace, first: number, count: number): void {
  const tuple = (port: number): string =>
    `conntrack -I -p udp -t 1000 -s 10.0.0.1 -d 198.51.100.80 --sport ${port} --dport 53 2>&1`;
  const lines = Array.from({ length: count }, (_, index) => tuple(first + index));
  ask(namespace, ["sh", "-e", "-s"], lines.join("\n"));
}

/** A namespace in which also flows tell of their end that began before anybody listened. */
function talkativeNamespace(): NetworkNamespace {
  const namespace = trackingNamespace();
  ask(namespace, ["sysctl", "-qw", "net.netfilter.nf_conntrack_events=1"]);
  return namespace;
}

describe("FlowWatch", () => {
  test("tells what happens after it began, not what was there", () => {
    const namespace = talkativeNamespace();
    insert(namespace, 1);
    using events = ConntrackEvents.open({ namespace });
    using table = Conntrack.open(namespace);
    // This one is in the table and in the queue.
    insert(namespace, 2);
    const diary = new Diary();
    const watch = new FlowWatch(events, table, compileFlowFilter({}), diary);
    expect(watch.flows).toBe(2);
    insert(namespace, 3);
    remove(namespace, 1);
    watch.next(1000);
    expect(diary.lines).toEqual(["new 3", "destroy 1"]);
    expect(watch.flows).toBe(2);
  });

  test("after an overrun it says how many events were lost, and what they must have been", () => {
    const namespace = talkativeNamespace();
    insert(namespace, 1);
    insert(namespace, 2);
    using events = ConntrackEvents.open({ namespace, receiveBufferBytes: 1 });
    using table = Conntrack.open(namespace);
    const diary = new Diary();
    const watch = new FlowWatch(events, table, compileFlowFilter({}), diary);
    insertMany(namespace, 100, 30);
    remove(namespace, 1);
    remove(namespace, 105);
    watch.next(1000);
    const told = (pattern: RegExp): number[] =>
      diary.lines.flatMap((line) => (pattern.test(line) ? [Number(line.split(" ")[1])] : []));
    const heard = told(/^new /).length + told(/^destroy /).length;
    expect(diary.lines).toContain(`lost ${32 - heard}`);
    expect(diary.lines).toContain("resynced 30");
    expect(told(/^destroy\?/)).toContain(1);
    // Every flow that lives is known by exactly one line, heard or found.
    const news = told(/^new\??/).sort((a, b) => a - b);
    expect(news.filter((port) => port !== 105)).toEqual(
      Array.from({ length: 30 }, (_, index) => 100 + index).filter((port) => port !== 105),
    );
    // And it goes on as before.
    insert(namespace, 7);
    diary.lines.length = 0;
    watch.next(1000);
    expect(diary.lines).toEqual(["new 7"]);
  });

  test("a filter holds for events, for the first look and for the look after an overrun", () => {
    const namespace = trackingNamespace();
    makeEntries(namespace);
    using events = ConntrackEvents.open({ namespace, receiveBufferBytes: 1 });
    using table = Conntrack.open(namespace);
    const diary = new Diary();
    const tcp = compileFlowFilter({ protocols: [6] });
    const watch = new FlowWatch(events, table, tcp, diary);
    expect(watch.flows).toBe(MADE.filter((entry) => entry[1] === "tcp").length);
    insertMany(namespace, 100, 30);
    watch.next(1000);
    expect(diary.lines.filter((line) => /^(?:new|destroy|update)/.test(line))).toEqual([]);
    expect(diary.lines).toContain(`resynced ${watch.flows}`);
  });
});

describe("tracking", () => {
  const tracking = (namespace: NetworkNamespace) => {
    using table = Conntrack.open(namespace);
    return trackingOf(namespace, table.statistics());
  };

  test("is not asked for in a fresh namespace, nor by a nat chain without a rule", () => {
    const namespace = freshNamespace();
    expect(tracking(namespace)).toEqual({ state: "not-asked-for" });
    ask(namespace, ["nft", "-f", "-"], "table ip t { chain c { type nat hook postrouting priority 100; }; }");
    expect(tracking(namespace)).toEqual({ state: "not-asked-for" });
    ask(namespace, ["ping", "-c1", "-W5", "127.0.0.1"]);
    expect(tracking(namespace)).toEqual({ state: "not-asked-for" });
  });

  test("is idle when a rule asks for it, and active with the first packet", () => {
    const namespace = freshNamespace();
    ask(
      namespace,
      ["nft", "-f", "-"],
      'table ip t { chain c { type nat hook postrouting priority 100; oifname "x" masquerade; }; }',
    );
    expect(tracking(namespace)).toEqual({ state: "idle", rule: "ip t c" });
    ask(namespace, ["ping", "-c1", "-W5", "127.0.0.1"]);
    expect(tracking(namespace)).toEqual({ state: "active" });
  });

  testWith(["root", "iptables", "ip", "nft"])("is asked for by iptables rules too", () => {
    const namespace = freshNamespace();
    ask(namespace, ["iptables", "-A", "FORWARD", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP"]);
    expect(["idle", "unknown"]).toContain(tracking(namespace).state);
  });

  plainTest("rules of dormant tables ask for nothing", () => {
    const masq = { handle: 1, expressions: [{ kind: "masq" } as const] };
    const chain = { name: "c", handle: 1, flags: [], use: 1, rules: [masq] };
    const table = {
      family: "ip",
      name: "t",
      handle: 1,
      sets: [],
      objects: [],
      flowtables: [],
      chains: [chain],
    } as const;
    expect(askingRule({ generation: 1, tables: [{ ...table, flags: [] }] })).toBe("ip t c");
    expect(askingRule({ generation: 1, tables: [{ ...table, flags: ["dormant"] }] })).toBeUndefined();
  });
});
