/** What mountinfo says of a process's world. */
import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MOST_MOUNTS_BYTES, mayHang, mountOf } from "../../src/kernel/mounts.ts";
import { afterThisTest } from "../support/teardown.ts";
import { testWith } from "../support/witness.ts";

const line = (point: string, type: string, root = "/"): string =>
  `36 35 98:0 ${root} ${point} rw,noatime master:1 - ${type} source rw`;

test("a path lies in the nearest mount above it, of two at one point in the later one", () => {
  const found = (...lines: string[]) => mountOf("/run/wayout", lines.join("\n"));
  const root = line("/", "overlay");
  expect(found(root, line("/proc", "proc"))).toMatchObject({ point: "/", type: "overlay", root: "/" });
  expect(found(root, line("/run/wayout", "ext4", "/srv"), line("/run", "tmpfs"))).toMatchObject({
    point: "/run/wayout",
    root: "/srv",
  });
  expect(found(root, line("/run", "ramfs"), line("/run", "tmpfs"))?.type).toBe("tmpfs");
  expect(found(root, line("/run/wayout-other", "tmpfs"), line("/run/netns", "tmpfs"))?.point).toBe("/");
  expect(found(line("/proc", "proc"))).toBeUndefined();
});

test("what a process sees of this machine's own file systems can be waited for; a process that is gone cannot be judged", () => {
  expect(mayHang(process.pid)).toBe(false);
  expect(mayHang(2 ** 22 + 1)).toBe(true);
});

testWith(["root"])(
  "a process may have any number of mounts: of one with too many they are not all read",
  async () => {
    const directory = mkdtempSync(join(tmpdir(), "wayout-mounts-"));
    afterThisTest(() => rmSync(directory, { recursive: true, force: true }));
    const name = "d".repeat(250);
    const script = [
      `mount -t tmpfs many ${directory}`,
      `cd ${directory}`,
      "mkdir x",
      ...Array.from({ length: 12 }, () => `mkdir ${name} && cd ${name}`),
      "mount --bind . .",
      "cd /",
      // The mounts on it are doubled with it.
      ...Array.from({ length: 9 }, () => `mount --rbind ${directory} ${directory}/x`),
      "echo ready",
      "exec cat",
    ];
    await using crowded = Bun.spawn(["unshare", "--mount", "sh", "-ec", script.join("\n")], {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "inherit",
    });
    const { value } = await crowded.stdout.getReader().read();
    expect(new TextDecoder().decode(value)).toBe("ready\n");
    expect(readFileSync(`/proc/${crowded.pid}/mountinfo`).length).toBeGreaterThan(MOST_MOUNTS_BYTES);
    expect(mayHang(crowded.pid)).toBe(true);
  },
);
