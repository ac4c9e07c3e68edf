/** Commands to paste: whatever a name holds, the shell sees one word of it and runs nothing else. */
import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { iptablesInterface, nftInterface, nftName } from "../../src/linux/nftables/spelling.ts";
import { sysctlWord } from "../../src/linux/sysctl-name.ts";
import { command, commandIn } from "../../src/text/command.ts";
import { afterThisTest } from "../support/teardown.ts";

/** Names that somebody might choose to have root run something. */
const HOSTILE = [
  ";touch x",
  "$(touch x)",
  "`touch x`",
  "a'b;touch x'",
  'a"b;touch x"',
  "a|touch x",
  "a&touch x&",
  "a b",
  ">x",
  "*",
  "~",
  "#a",
  "!!",
  "\\",
  "a=b",
  "été-größe-名",
];

/** What a POSIX shell makes of the line: the words that a program would get. Runs in a directory of its own. */
function wordsOf(line: string): { words: string[]; left: string[] } {
  const directory = mkdtempSync(join(tmpdir(), "wayout-paste-"));
  afterThisTest(() => rmSync(directory, { recursive: true, force: true }));
  const child = Bun.spawnSync(["sh", "-c", `show() { printf '%s\\0' "$@"; }; ${line}`], { cwd: directory });
  expect(child.exitCode).toBe(0);
  const words = child.stdout.toString().split("\0").slice(0, -1);
  return { words, left: existsSync(directory) ? readdirSync(directory) : [] };
}

describe("a value in a command", () => {
  test("is one word of a shell, whatever it holds", () => {
    for (const name of HOSTILE) {
      expect(wordsOf(command`show dev ${name} up`!)).toEqual({ words: ["dev", name, "up"], left: [] });
      expect(wordsOf(command`show --net=${name}/x`!)).toEqual({ words: [`--net=${name}/x`], left: [] });
      expect(wordsOf(command`show ${["-6", name]} end`!).words).toEqual(["-6", name, "end"]);
    }
  });

  test("is one word for every text that can be seen", () => {
    const text = fc.string({ unit: "grapheme", minLength: 1, maxLength: 15 });
    fc.assert(
      fc.property(text, (name) => {
        const line = command`show dev ${name}`;
        if (line !== undefined) expect(wordsOf(line).words).toEqual(["dev", name]);
      }),
      { numRuns: 30 },
    );
  });

  test("that nobody could see or type gives no command", () => {
    for (const name of [
      "a\nb",
      "a\u001b[2J",
      "\u202eabc",
      "a\u200bb",
      "a\u0085b",
      "bad\ufffd",
      "half\ud800",
      "\udc00half",
      "fill\u3164er",
      "",
      undefined,
    ]) {
      expect(command`ip link set dev ${name} up`).toBeUndefined();
    }
  });

  test("that looks like an option gives none, but where the program takes it as it is", () => {
    expect(command`wayout doctor ${"--fix"}`).toBeUndefined();
    expect(command`ip neigh del ${"-x"} dev eth0`).toBeUndefined();
    expect<string | undefined>(command`ip link set dev ${"-x"} up`).toBe("ip link set dev -x up");
  });

  test("an empty list leaves no gap", () => {
    expect<string | undefined>(command`ip ${[]} route del ${["default", "dev", "a b"]} ${[]}`).toBe(
      "ip route del default dev 'a b'",
    );
  });
});

test("a command for another namespace names it as one word", () => {
  const line = command`ip link`;
  expect<string | undefined>(commandIn("/run/netns/a b", line)).toBe("ip netns exec 'a b' ip link");
  expect<string | undefined>(commandIn("/proc/7/ns/net", line)).toBe("nsenter --net=/proc/7/ns/net ip link");
  expect<string | undefined>(commandIn("/run/$(x)/net", line)).toBe("nsenter --net='/run/$(x)/net' ip link");
  expect(commandIn("/run/netns/a\u001b", line)).toBeUndefined();
});

test("what a program's own language cannot spell gives no command", () => {
  expect(["filter", "a_b.c/d-1", "a b", "7up", "x;y", "ta\u001ble"].map(nftName)).toEqual([
    "filter",
    "a_b.c/d-1",
    undefined,
    undefined,
    undefined,
    undefined,
  ]);
  expect(["eth0", "a;b", 'a"b', "eth*"].map(nftInterface)).toEqual(['"eth0"', '"a;b"', undefined, undefined]);
  expect(["eth0", "eth+", "!a"].map(iptablesInterface)).toEqual(["eth0", undefined, undefined]);
  expect(sysctlWord("net.ipv4.conf.eth0.100.rp_filter")).toBe("net/ipv4/conf/eth0.100/rp_filter");
  expect(sysctlWord("net.ipv4.ip_forward")).toBe("net.ipv4.ip_forward");
  expect(sysctlWord("net.ipv4.conf.a=b.rp_filter")).toBeUndefined();
});
