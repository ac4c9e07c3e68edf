/** What mountinfo says of a process's world. */
import { expect, test } from "bun:test";
import { mayHang, mountOf } from "../../src/kernel/mounts.ts";

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
