/** Files below a directory that is not trusted: whatever stands there, nothing outside of it is opened, and nothing waits. */
import { describe, expect, test } from "bun:test";
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  constants,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readContained, readContainedIfThere, walkContained } from "../../src/kernel/contained-file.ts";
import { readHandle, readRegular, readRegularIfThere } from "../../src/kernel/file.ts";
import { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, testWith } from "../support/witness.ts";

const MOST = 1024;

function freshRoot(): { readonly root: string; readonly outside: string } {
  const directory = mkdtempSync(join(tmpdir(), "wayout-contained-"));
  afterThisTest(() => rmSync(directory, { recursive: true, force: true }));
  const root = join(directory, "root");
  mkdirSync(join(root, "etc", "deep", "er"), { recursive: true });
  mkdirSync(join(directory, "etc"));
  const outside = join(directory, "secret");
  writeFileSync(outside, "SECRET");
  writeFileSync(join(directory, "etc", "plain"), "SECRET");
  writeFileSync(join(root, "etc", "plain"), "inside");
  return { root, outside };
}

/** Both ways: the kernel's own, and ours for kernels without it. */
const WAYS = {
  openat2: (root: string, path: string) => readContained(root, path, MOST).text,
  "part by part": (root: string, path: string) => {
    const directory = openSync(root, constants.O_RDONLY | constants.O_DIRECTORY);
    try {
      const handle = walkContained(directory, path);
      try {
        return readHandle(handle, MOST).text;
      } finally {
        closeSync(handle);
      }
    } finally {
      closeSync(directory);
    }
  },
} as const;

for (const [way, read] of Object.entries(WAYS)) {
  describe(way, () => {
    test("reads what is there, through links that stay inside", () => {
      const { root } = freshRoot();
      symlinkSync("/etc/plain", join(root, "etc", "absolute"));
      symlinkSync("../../plain", join(root, "etc", "deep", "er", "relative"));
      symlinkSync("deep", join(root, "etc", "directory"));
      for (const path of [
        "/etc/plain",
        "/etc/absolute",
        "/etc/deep/er/relative",
        "/etc/directory/er/relative",
        "/etc/./deep/../plain",
      ]) {
        expect([path, read(root, path)]).toEqual([path, "inside"]);
      }
    });

    test("links that lead out end inside", () => {
      const { root, outside } = freshRoot();
      symlinkSync(outside, join(root, "etc", "out"));
      symlinkSync("../../../../../../../etc/plain", join(root, "etc", "up"));
      symlinkSync("/../../etc", join(root, "top"));
      expect(() => read(root, "/etc/out")).toThrow("ENOENT");
      expect(read(root, "/etc/up")).toBe("inside");
      expect(read(root, "/top/plain")).toBe("inside");
    });

    test("links in a circle, and links of /proc, lead nowhere", () => {
      const { root } = freshRoot();
      symlinkSync("circle", join(root, "etc", "circle"));
      expect(() => read(root, "/etc/circle")).toThrow("ELOOP");
      // Seen from the real root, this one would be a way to anywhere.
      expect(() => read("/proc/self", "/root/etc/hostname")).toThrow();
      expect(() => read("/proc/self", "/cwd/package.json")).toThrow();
    });

    test("what is no regular file is not opened, and not waited for", () => {
      const { root } = freshRoot();
      ask(undefined, ["mkfifo", join(root, "etc", "fifo")]);
      for (const path of ["/etc/fifo", "/etc", "/"])
        expect(() => read(root, path)).toThrow(/no regular file|EISDIR/);
      expect(() => read("/", "/dev/zero")).toThrow("no regular file");
    });
  });
}

test("what the kernel shows as a file is not read: it may be taken from another reader", () => {
  for (const path of ["/proc/kmsg", "/proc/version", "/sys/kernel/uevent_seqnum"]) {
    expect(() => readContained("/", path, MOST)).toThrow(/EINVAL/);
  }
});

// Only who owns the process namespace may mount its /proc.
testWith(["real-root"])("nor where it is mounted in the place of a folder", () => {
  const { root } = freshRoot();
  ask(undefined, ["mount", "-t", "proc", "proc", join(root, "etc")]);
  try {
    expect(() => readContained(root, "/etc/version", MOST)).toThrow(/EINVAL/);
  } finally {
    ask(undefined, ["umount", join(root, "etc")]);
  }
});

test("no more is read than was asked for, and that there is more is said", () => {
  const { root } = freshRoot();
  writeFileSync(join(root, "long"), "x".repeat(MOST + 1));
  writeFileSync(join(root, "fits"), "x".repeat(MOST));
  expect(readContained(root, "/long", MOST)).toEqual({ text: "x".repeat(MOST), whole: false });
  expect(readContained(root, "/fits", MOST).whole).toBe(true);
  expect(readContainedIfThere(root, "/nothing/at/all", MOST)).toBeUndefined();
  expect(readContainedIfThere(root, "/fits/below", MOST)).toBeUndefined();
});

test("a settings file may be a FIFO, a device, a directory, or not there", () => {
  const { root } = freshRoot();
  ask(undefined, ["mkfifo", join(root, "fifo")]);
  for (const path of [join(root, "fifo"), "/dev/zero", root])
    expect(() => readRegular(path, MOST)).toThrow("no regular file");
  expect(readRegularIfThere(join(root, "nothing"), MOST)).toBeUndefined();
});

test("a path that is no network namespace is told, whatever it is, and not waited for", () => {
  const { root } = freshRoot();
  ask(undefined, ["mkfifo", join(root, "fifo")]);
  for (const path of [
    join(root, "fifo"),
    "/dev/null",
    "/dev/zero",
    join(root, "etc", "plain"),
    root,
    "/proc/self/ns/uts",
    "/proc/self/status",
  ]) {
    expect(() => NetworkNamespace.open(path)).toThrow("EINVAL");
  }
});
