/** What mountinfo says of a process's world. */
import { expect, test } from "bun:test";
import { isContainersOwn, mayHang } from "../../src/kernel/mounts.ts";

const line = (point: string, type: string): string =>
  `36 35 98:0 / ${point} rw,noatime master:1 - ${type} source rw`;
const own = (...lines: string[]): boolean => isContainersOwn("/run/wayout", lines.join("\n"));

test("a container has a /run of its own unless the node's is mounted into it", () => {
  expect(own(line("/", "overlay"), line("/proc", "proc"))).toBe(true);
  expect(own(line("/", "overlay"), line("/run/wayout", "tmpfs"))).toBe(false);
  expect(own(line("/", "overlay"), line("/run", "tmpfs"))).toBe(false);
  expect(own(line("/", "overlay"), line("/run/wayout-other", "tmpfs"), line("/run/netns", "tmpfs"))).toBe(
    true,
  );
  // A machine: nothing is laid over its root.
  expect(own(line("/", "ext4"))).toBe(false);
});

test("what a process sees of this machine's own file systems can be waited for; a process that is gone cannot be judged", () => {
  expect(mayHang(process.pid)).toBe(false);
  expect(mayHang(2 ** 22 + 1)).toBe(true);
});
