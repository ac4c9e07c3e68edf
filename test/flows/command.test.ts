/** `wayout conntrack` as people and programs use it. */
import { describe, expect } from "bun:test";
import { join } from "node:path";
import { tableError } from "../../src/cli/conntrack-table.ts";
import { Conntrack } from "../../src/kernel/conntrack/conntrack.ts";
import { ERRNO, SystemError } from "../../src/linux/errno.ts";
import { NLMSG_ERROR } from "../../src/linux/netlink/message.ts";
import type { NetlinkTransport } from "../../src/kernel/netlink/transport.ts";
import { deleteNamedNamespace } from "../../src/kernel/named-namespace.ts";
import { type NetworkNamespace } from "../../src/kernel/namespace.ts";
import { makeEntries, MADE, trackingNamespace } from "../kernel/conntrack/tracked-world.ts";
import { ask, run, testWith, type Ran } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";

const test = testWith(["root", "conntrack", "nft", "ip"]);
const WAYOUT = join(import.meta.dir, "..", "..", "bin", "wayout");

function wayout(namespace: NetworkNamespace | undefined, ...args: readonly string[]): Ran {
  return run(namespace, [WAYOUT, "conntrack", ...args], undefined, { ...process.env, NO_COLOR: "1" });
}

function made(): NetworkNamespace {
  const namespace = trackingNamespace();
  makeEntries(namespace);
  return namespace;
}

describe("list", () => {
  test("shows each flow as the translation that it is", () => {
    const { stdout, stderr, exitCode } = wayout(made(), "list", "--no-pods");
    expect(exitCode).toBe(0);
    const lines = stdout.trimEnd().split("\n");
    expect(lines).toHaveLength(MADE.length);
    expect(stdout).toMatch(
      /^tcp {4}ESTABLISHED {4}9\d\ds {2}10\.0\.0\.1:5432 ↔ 203\.0\.113\.5:5432 → 198\.51\.100\.80:443 {2}↑0\/0B ↓0\/0B age=\ds assured mark=7$/m,
    );
    expect(stdout).toMatch(/^tcp +TIME_WAIT .* 10\.0\.0\.2:5432 → 203\.0\.113\.9:443 ↔ 10\.0\.0\.7:8443 /m);
    expect(stdout).toMatch(
      /^tcp +SYN_SENT .* \[fd00::1\]:5432 → \[2001:db8::80\]:443 .*unreplied mark=4294967295$/m,
    );
    expect(stdout).toMatch(
      /^icmp +unreplied .* 10\.0\.0\.1#77 ↔ 203\.0\.113\.5#77 → 198\.51\.100\.80 type 8 code 0/m,
    );
    expect(stdout).toMatch(/zone=9$/m);
    expect(stderr).toContain(`${MADE.length} flows`);
  });

  test("--json is one JSON array with one flow a line, --json-lines has nothing around them", () => {
    const namespace = made();
    const { stdout } = wayout(namespace, "list", "--json", "--no-pods");
    const flows = JSON.parse(stdout) as { translation: object; state: string; id: number }[];
    expect(flows).toHaveLength(MADE.length);
    expect(stdout.split("\n")).toHaveLength(MADE.length + 3);
    const lines = wayout(namespace, "list", "--json-lines", "--no-pods").stdout.trimEnd().split("\n");
    const ids = lines.map((line) => (JSON.parse(line) as { id: number }).id);
    expect(ids).toEqual(flows.map((flow) => flow.id));
    expect(flows.every((flow) => flow.state !== "" && "source" in flow.translation)).toBe(true);
    expect(JSON.parse(wayout(namespace, "list", "--json", "--dport", "7").stdout)).toEqual([]);
  });

  test("the name of a pod stands in JSON with what cannot be seen in it spelled out", () => {
    const namespace = made();
    for (const hidden of ["\u007f", "\u202e", "\u{e0041}"]) {
      const pod = freshNamespace(`blue${hidden}é`);
      ask(pod, ["ip", "link", "add", "eth9", "type", "bridge"]);
      ask(pod, ["ip", "address", "add", "10.0.0.2/24", "dev", "eth9"]);
      ask(pod, ["ip", "link", "set", "eth9", "up"]);
      const { stdout } = wayout(undefined, "list", "--netns", namespace.name!, "--json", "--pod", pod.name!);
      expect(stdout).not.toContain(hidden);
      expect(stdout).toContain("é");
      const [flow] = JSON.parse(stdout) as [{ pod: string }];
      expect(flow.pod).toBe(pod.name!);
      deleteNamedNamespace(pod.name!);
    }
  });

  test("filters, sorts and cuts", () => {
    const namespace = made();
    const count = (...args: string[]): number => {
      const { stdout, exitCode } = wayout(namespace, "list", "--no-pods", ...args);
      expect(exitCode).toBe(0);
      return stdout === "" ? 0 : stdout.trimEnd().split("\n").length;
    };
    expect(count("--state", "established")).toBe(2);
    expect(count("--state", "SYN_SENT,TIME_WAIT")).toBe(2);
    expect(count("--proto", "udp", "--proto", "17")).toBe(5);
    expect(count("--snat")).toBe(2);
    expect(count("--dnat")).toBe(1);
    expect(count("--nat")).toBe(3);
    expect(count("--src", "10.0.0.0/24", "--dport", "50-60")).toBe(1);
    expect(count("--orig-src", "fd00::/8")).toBe(3);
    expect(count("--reply-dst", "203.0.113.5")).toBe(2);
    expect(count("--reply-src", "10.0.0.7", "--reply-sport", "8443")).toBe(1);
    expect(count("--mark", "0x3/0x3")).toBe(2);
    expect(count("--zone", "7")).toBe(1);
    expect(count("--family", "6")).toBe(3);
    expect(count("--assured")).toBe(2);
    expect(count("--unreplied", "--proto", "udp")).toBe(4);
    expect(count("--limit", "3")).toBe(3);
    const ids = (...more: string[]): number[] =>
      (JSON.parse(wayout(namespace, "list", "--no-pods", "--json", ...more).stdout) as { id: number }[]).map(
        ({ id }) => id,
      );
    for (const order of [[], ["--sort", "destination"]]) {
      const pages = [0, 2].flatMap((offset) => ids(...order, "--limit", "2", "--offset", String(offset)));
      expect(pages).toEqual(ids(...order, "--limit", "4"));
    }
    expect(wayout(namespace, "list", "--json", "--limit", "5", "--offset", "999").stdout).toBe("[\n\n]\n");
    const byMark = wayout(namespace, "list", "--no-pods", "--sort", "mark", "--limit", "2").stdout;
    expect([...byMark.matchAll(/mark=(\d+)/g)].map((match) => match[1])).toEqual(["4294967295", "7"]);
  });

  test("--of-pods takes the flows of all pods and no others", () => {
    const namespace = made();
    const pod = freshNamespace("blue");
    ask(pod, ["ip", "link", "add", "eth9", "type", "bridge"]);
    for (const address of ["10.0.0.7/24", "fd00::2/64"])
      ask(pod, ["ip", "address", "add", address, "dev", "eth9", ...(address.includes(":") ? ["nodad"] : [])]);
    ask(pod, ["ip", "link", "set", "eth9", "up"]);
    const listed = (...more: string[]): { id: number; pod?: string }[] =>
      JSON.parse(wayout(namespace, "list", "--json", ...more).stdout) as { id: number; pod?: string }[];
    const [flows, all] = [listed("--of-pods"), listed()];
    expect(flows.map(({ pod: name }) => name)).toContain(pod.name);
    expect(flows.map(({ id }) => id)).toEqual(all.filter((one) => one.pod !== undefined).map(({ id }) => id));
    expect(flows.length).toBeLessThan(all.length);
    // Another world's node may have the address that this one has: its flows here are this node's own.
    ask(namespace, ["ip", "link", "add", "own", "type", "bridge"]);
    ask(namespace, ["ip", "address", "add", "10.0.0.7/24", "dev", "own"]);
    expect(flows.length).toBeGreaterThan(0);
    expect(listed("--of-pods")).toEqual([]);
  });

  test("--netns and --pod name a namespace; a pod's flows are found by its addresses and carry its name", () => {
    const namespace = made();
    const pod = freshNamespace("blue");
    ask(pod, ["ip", "link", "add", "eth9", "type", "bridge"]);
    ask(pod, ["ip", "address", "add", "10.0.0.2/24", "dev", "eth9"]);
    ask(pod, ["ip", "link", "set", "eth9", "up"]);
    const { stdout, exitCode } = wayout(undefined, "list", "--netns", namespace.name!, "--pod", pod.name!);
    expect(exitCode).toBe(0);
    expect(stdout.trimEnd().split("\n")).toHaveLength(1);
    expect(stdout).toContain(`pod=${pod.name}`);
    const byPath = wayout(undefined, "list", "--netns", namespace.path, "--no-pods").stdout;
    expect(byPath.trimEnd().split("\n")).toHaveLength(MADE.length);
  });

  test("says why nothing is tracked", () => {
    const { stdout, stderr, exitCode } = wayout(freshNamespace(), "list");
    expect({ stdout, exitCode }).toEqual({ stdout: "", exitCode: 0 });
    expect(stderr).toContain("Nothing is tracked in this namespace");
    expect(stderr).toContain("'ct' or NAT");
  });

  test("says why nothing is offloaded, and where accounting is to be switched on", () => {
    const namespace = made();
    // A kernel with flowtables has a setting for them in every namespace.
    const hasFlowtables =
      run(namespace, ["sysctl", "-n", "net.netfilter.nf_flowtable_tcp_timeout"]).exitCode === 0;
    const { stdout, stderr, exitCode } = wayout(namespace, "list", "--offloaded");
    expect({ stdout, exitCode }).toEqual({ stdout: "", exitCode: 0 });
    expect(stderr).toContain(hasFlowtables ? "No flow is offloaded." : "This kernel offloads no flows");
    expect(wayout(namespace, "list").stderr).not.toContain("offload");
    ask(namespace, ["sysctl", "-qw", "net.netfilter.nf_conntrack_acct=0"]);
    const elsewhere = wayout(undefined, "list", "--netns", namespace.name!);
    expect(elsewhere.stderr).toContain(
      `ip netns exec ${namespace.name} sysctl -w net.netfilter.nf_conntrack_acct=1`,
    );
  });

  test("a reader that goes away ends it quietly", () => {
    const namespace = made();
    const { stdout, stderr, exitCode } = run(namespace, [
      "sh",
      "-c",
      `"${WAYOUT}" conntrack list --no-pods | head -1`,
    ]);
    expect(stdout.split("\n")).toHaveLength(2);
    expect({ stderr: stderr.replace(/^.*flows\n/, ""), exitCode }).toEqual({ stderr: "", exitCode: 0 });
  });
});

describe("wrong usage ends with 2 and names the option", () => {
  for (const [args, said] of [
    [["list", "--state", "OPENISH"], '"OPENISH"'],
    [["list", "--src", "10.0.0.1/24"], "10.0.0.0/24"],
    [["list", "--dport", "70000"], "--dport"],
    [["list", "--dport", "9-3"], "--dport"],
    [["list", "--mark", "1/2/3"], "--mark"],
    [["list", "--proto", "tpc"], "--proto"],
    [["list", "--family", "5"], "--family"],
    [["list", "--limit", "0"], "--limit"],
    [["list", "--unreplied", "--replied"], "--replied"],
    [["list", "--sort", "colour"], "--sort"],
    [["list", "--netns", "no-such-place"], "no-such-place"],
    [["watch", "--events", "born"], "--events"],
    [["flush"], "--all"],
    [["flush", "--all", "--proto", "udp"], "--all"],
  ] as const) {
    test(args.join(" "), () => {
      const text = wayout(undefined, ...args);
      expect(text.exitCode).toBe(2);
      expect(text.stderr).toContain(said);
      const json = wayout(undefined, ...args, "--json");
      expect(json.exitCode).toBe(2);
      expect((JSON.parse(json.stdout) as { error: { kind: string } }).error.kind).toBe("usage");
    });
  }
});

test("a kernel without connection tracking is told as such", () => {
  // nfnetlink without ctnetlink behind it (nfnetlink_rcv_msg), and a kernel without nfnetlink.
  const errors = [
    thrownBy(() => new Conntrack(new Refusal(ERRNO.EINVAL)).statistics()),
    new SystemError("socket", ERRNO.EPROTONOSUPPORT),
  ];
  for (const error of errors) {
    expect(tableError(error)).toMatchObject({
      code: "no-conntrack",
      kind: "machine",
      said: expect.stringContaining("does not offer connection tracking"),
      todo: expect.stringContaining("modprobe nf_conntrack_netlink"),
    });
  }
  const other = new Error("something else");
  expect(tableError(other)).toBe(other);
});

/** Answers every request with that error, as a kernel does. */
class Refusal implements NetlinkTransport {
  #sequence = 0;
  constructor(readonly errno: number) {}

  send(datagram: Uint8Array): void {
    this.#sequence = new DataView(datagram.buffer, datagram.byteOffset).getUint32(8, true);
  }
  receive(): Uint8Array {
    // struct nlmsghdr, the error, and the header of the message that was refused.
    const bytes = new Uint8Array(36);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, bytes.length, true);
    view.setUint16(4, NLMSG_ERROR, true);
    view.setUint32(8, this.#sequence, true);
    view.setInt32(16, -this.errno, true);
    return bytes;
  }
  join(): void {}
  close(): void {}
}

function thrownBy(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  return undefined;
}

testWith(["real-root", "runuser"])("an ordinary user is told what is missing, with exit code 3", () => {
  const { exitCode, stderr } = run(freshNamespace(), [
    "runuser",
    "-u",
    "nobody",
    "--",
    WAYOUT,
    "conntrack",
    "list",
  ]);
  expect(stderr).toContain("operation not permitted");
  expect(stderr).toContain("CAP_NET_ADMIN");
  expect(exitCode).toBe(3);
});

test("a full disk is an error, not a short list", () => {
  const { exitCode, stderr } = run(made(), ["sh", "-c", `"${WAYOUT}" conntrack list --no-pods > /dev/full`]);
  expect(stderr).toContain("no space left");
  expect(exitCode).toBe(3);
});

describe("flush", () => {
  test("shows what it will delete, deletes that and nothing else; --dry-run deletes nothing", () => {
    const namespace = made();
    const rehearsal = wayout(namespace, "flush", "--proto", "udp", "--dry-run");
    expect(rehearsal.stdout.trimEnd().split("\n")).toHaveLength(5);
    expect(rehearsal.stderr).toContain("5 flows would be deleted");
    expect(Number(ask(namespace, ["conntrack", "-C"]))).toBe(MADE.length);
    const real = wayout(namespace, "flush", "--proto", "udp");
    expect(real.stdout.trimEnd().split("\n")).toHaveLength(5);
    expect(real.stderr).toContain("5 flows deleted");
    expect(Number(ask(namespace, ["conntrack", "-C"]))).toBe(MADE.length - 5);
    const rest = JSON.parse(wayout(namespace, "flush", "--all", "--json").stdout) as Record<string, unknown>;
    expect(rest).toMatchObject({ dryRun: false, matched: MADE.length - 5, deleted: MADE.length - 5 });
    expect(Number(ask(namespace, ["conntrack", "-C"]))).toBe(0);
  });
});

describe("stats", () => {
  test("tells the table's use, the counters' meaning and the source ports in use", () => {
    const namespace = made();
    const { stdout } = wayout(namespace, "stats");
    expect(stdout).toMatch(new RegExp(`^Table {2}${MADE.length} of \\d+ entries`, "m"));
    for (const name of ["insert_failed", "drop", "early_drop", "invalid", "clash_resolve"]) {
      expect(stdout).toMatch(new RegExp(`^ {2}${name} +0 +\\S`, "m"));
    }
    // ctnetlink made the entries; which CPU it ran on is the scheduler's affair.
    expect(stdout).toMatch(new RegExp(`^ {2}insert +${MADE.length} \\(cpu\\d+ \\d+`, "m"));
    expect(stdout).toMatch(/^ {2}tcp 203\.0\.113\.5 → 198\.51\.100\.80:443 +1 of 64512/m);
    const narrow = wayout(namespace, "stats", "--ports", "40000-40000").stdout;
    expect(narrow).toMatch(/^ {2}tcp 203\.0\.113\.5 → 198\.51\.100\.80:443 +1 of 1 +100 %/m);
    const value = JSON.parse(wayout(namespace, "stats", "--json").stdout) as Record<string, unknown>;
    expect(value).toMatchObject({
      table: { entries: MADE.length },
      flows: MADE.length,
      portUse: [
        { protocol: "tcp", outgoing: "203.0.113.5", destination: "198.51.100.80", port: 443, used: 1 },
      ],
    });
  });
});

describe("watch", () => {
  test("prints events as they happen and ends after --count", async () => {
    const namespace = trackingNamespace();
    const child = namespace.run(() =>
      Bun.spawn([WAYOUT, "conntrack", "watch", "--count", "3", "--no-pods"], {
        stdout: "pipe",
        stderr: "pipe",
      }),
    );
    // Its note on stderr says that it listens.
    const reader = child.stderr.getReader();
    await reader.read();
    const tuple = ["-s", "10.0.0.1", "-d", "198.51.100.80", "--sport", "5432", "--dport", "53"];
    ask(namespace, ["conntrack", "-I", "-p", "tcp", "--state", "SYN_SENT", "-t", "100", ...tuple]);
    ask(namespace, ["conntrack", "-U", "-p", "tcp", "-s", "10.0.0.1", "--mark", "5"]);
    ask(namespace, ["conntrack", "-F"]);
    const text = await new Response(child.stdout).text();
    expect(await child.exited).toBe(0);
    const flow = "10.0.0.1:5432 → 198.51.100.80:53";
    expect(text.split("\n").map((line) => line.replace(/\s+\d+s /, " "))).toEqual([
      expect.stringMatching(new RegExp(`^new +tcp +SYN_SENT +${flow}`)),
      expect.stringMatching(new RegExp(`^update +tcp +SYN_SENT +${flow}.* mark=5$`)),
      expect.stringMatching(new RegExp(`^destroy +tcp +SYN_SENT +${flow}.* mark=5$`)),
      "",
    ]);
  });

  test("--json gives one object a line; --events and filters choose", async () => {
    const namespace = trackingNamespace();
    const args = ["--json", "--events", "destroy", "--proto", "tcp", "--count", "3", "--no-pods"];
    const child = namespace.run(() =>
      Bun.spawn([WAYOUT, "conntrack", "watch", ...args], { stdout: "pipe", stderr: "inherit" }),
    );
    const output = new Response(child.stdout).text();
    // Until it ends, entries come and go.
    const ended = child.exited.then(() => true);
    while (!(await Promise.race([ended, Bun.sleep(100).then(() => false)]))) {
      makeEntries(namespace);
      ask(namespace, ["conntrack", "-F"]);
    }
    const events = (await output)
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(events[0]).toEqual({ event: "watching", flows: expect.any(Number), olderFlowsAreSilent: true });
    expect(events).toHaveLength(4);
    for (const event of events.slice(1)) {
      expect(event).toMatchObject({ event: "destroy", missed: false, flow: { protocolName: "tcp" } });
    }
  });

  test("ends with 1 when its namespace goes away", async () => {
    const namespace = trackingNamespace();
    const child = Bun.spawn([WAYOUT, "conntrack", "watch", "--netns", namespace.name!, "--no-pods"], {
      stdout: "ignore",
      stderr: "pipe",
    });
    const reader = child.stderr.getReader();
    let said = new TextDecoder().decode((await reader.read()).value);
    deleteNamedNamespace(namespace.name!);
    for (let more = await reader.read(); !more.done; more = await reader.read()) {
      said += new TextDecoder().decode(more.value);
    }
    expect(await child.exited).toBe(1);
    expect(said).toContain("the namespace is gone");
  });
});
