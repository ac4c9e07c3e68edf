/** Who changed it: what /proc says of a process that may be gone. */
import { expect, test } from "bun:test";
import { culpritOf, culpritText } from "../../src/agent/culprit.ts";

const PROC: Readonly<Record<string, string>> = {
  "/proc/10/status": "Name:\tnft\nPPid:\t9\n",
  "/proc/9/status": "Name:\tsh\nPPid:\t8\n",
  "/proc/8/status": "Name:\tfirewalld\nPPid:\t1\n",
  "/proc/1/status": "Name:\tsystemd\nPPid:\t0\n",
  "/proc/10/cgroup": "0::/system.slice/firewalld.service\n",
};
const read = (path: string): string | undefined => PROC[path];

test("a process that is still there is named with its parents and its unit", () => {
  const culprit = culpritOf({ pid: 10, process: "nft" }, read);
  expect(culprit).toEqual({
    process: "nft",
    pid: 10,
    parents: ["sh", "firewalld"],
    unit: "firewalld.service",
    certainty: "seen",
  });
  expect(culpritText(culprit)).toBe("nft ← sh ← firewalld (firewalld.service)");
});

test("of one that is gone, or whose number another has, only what the kernel said is told", () => {
  expect(culpritOf({ pid: 77, process: "nft" }, read)).toEqual({
    process: "nft",
    pid: 77,
    certainty: "told",
  });
  expect(culpritOf({ pid: 9, process: "nft" }, read)).toEqual({ process: "nft", pid: 9, certainty: "told" });
  expect(culpritText(culpritOf({}, read))).toBe("unknown");
});

test("a container is named by its id, and parents that never end are cut", () => {
  const id = "a".repeat(64);
  const endless = (path: string): string =>
    path.endsWith("cgroup") ? `0::/kubepods.slice/cri-containerd-${id}.scope\n` : "Name:\tloop\nPPid:\t5\n";
  const culprit = culpritOf({ pid: 5, process: "loop" }, endless);
  expect(culprit.unit).toBe("container aaaaaaaaaaaa");
  expect(culprit.parents!.length).toBeLessThan(10);
  expect(culpritText(culprit)).toBe("loop (container aaaaaaaaaaaa)");
});
