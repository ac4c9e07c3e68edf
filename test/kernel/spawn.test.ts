/** Starting programs in other namespaces, on a machine that has no compiler's files and with callers of all sorts. */
import { expect, test } from "bun:test";
import { closeSync, existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import * as libc from "../../src/kernel/libc.ts";
import { endProcess, identify, isRunning } from "../../src/kernel/process.ts";
import { spawnIn } from "../../src/kernel/spawn.ts";
import { afterThisTest } from "../support/teardown.ts";
import { run, testWith } from "../support/witness.ts";

const SPAWN = join(import.meta.dir, "..", "..", "src", "kernel", "spawn.ts");
const SIGKILL = 9;
const MS_BIND = 0x1000;

/** Files that a compiler or linker would ask for, wherever this machine keeps them. */
function developmentFiles(): string[] {
  const machine = process.arch === "arm64" ? "aarch64" : "x86_64";
  const candidates = [`/usr/lib/${machine}-linux-gnu`, "/usr/lib", "/usr/lib64"];
  return candidates
    .flatMap((folder) => ["libc.so", "libc.a", "libtcc1.a", "crt1.o"].map((name) => join(folder, name)))
    .concat("/usr/include/stdio.h")
    .filter((path) => existsSync(path));
}

testWith(["root", "unshare"])("needs no development files, and no folder to write in", () => {
  const hidden = developmentFiles().map((path) => `mount --bind /dev/null ${path}`);
  const inside = `import { waitpid } from "${join(dirname(SPAWN), "libc.ts")}"; import { spawnIn } from "${SPAWN}";
    process.exit(waitpid(spawnIn({}, ["/bin/sh", "-c", "exit 7"], {})).exitCode);`;
  const script = [...hidden, `TMPDIR=/nowhere exec ${process.execPath} -e '${inside}'`].join(" && ");
  expect(run(undefined, ["unshare", "-m", "sh", "-c", script])).toMatchObject({ exitCode: 7, stderr: "" });
});

testWith(["root", "unshare"])(
  "our own program is started where its path is covered, or another file took its place",
  () => {
    const folder = mkdtempSync(join(tmpdir(), "wayout-covered-"));
    afterThisTest(() => rmSync(folder, { recursive: true }));
    const program = join(folder, "program");
    const inside = `import { mount, waitpid } from "${join(dirname(SPAWN), "libc.ts")}";
    import { spawnIn } from "${SPAWN}"; import { selfCommand } from "${join(dirname(SPAWN), "..", "self.ts")}";
    const visible = selfCommand()[0];
    mount("/dev/null", "${program}", "none", ${MS_BIND});
    const ends = waitpid(spawnIn({}, [process.execPath, "-e", "process.exit(7)"], {})).exitCode;
    const covered = Bun.spawnSync([selfCommand()[0], "-e", "process.exit(8)"]).exitCode;
    console.log(JSON.stringify({ visible, ends, covered }));`;
    const script = `: >${program} && mount --bind ${process.execPath} ${program} && exec ${program} -e '${inside}'`;
    const { stdout, stderr } = run(undefined, ["unshare", "-m", "sh", "-c", script]);
    expect(stderr).toBe("");
    expect(JSON.parse(stdout)).toEqual({ visible: program, ends: 7, covered: 8 });
  },
);

test("a detached process has nothing of its caller but what it is given", () => {
  const folder = mkdtempSync(join(tmpdir(), "wayout-spawn-"));
  const { readEnd, writeEnd } = libc.pipe();
  // Not close-on-exec, as a shell's `9>lock` is: a child that is not detached would hold it.
  const foreign = libc.open(folder, 0);
  const pid = spawnIn(
    { deathSignal: SIGKILL, detached: true, keep: [writeEnd] },
    [Bun.which("sleep")!, "60"],
    process.env,
  );
  afterThisTest(() => {
    process.kill(pid, "SIGKILL");
    libc.waitpid(pid);
    for (const fd of [readEnd, writeEnd, foreign]) closeSync(fd);
  });
  const descriptors = Object.fromEntries(
    readdirSync(`/proc/${pid}/fd`).map((fd) => [fd, readlinkSync(`/proc/${pid}/fd/${fd}`)]),
  );
  expect(descriptors).toEqual({
    "0": "/dev/null",
    "1": "/dev/null",
    "2": "/dev/null",
    [writeEnd]: readlinkSync(`/proc/self/fd/${writeEnd}`),
  });
  expect(readlinkSync(`/proc/${pid}/cwd`)).toBe("/");
  const session = (id: number | "self"): string | undefined =>
    readFileSync(`/proc/${id}/stat`, "utf8").split(") ")[1]?.split(" ")[3];
  expect(session(pid)).toBe(String(pid));
  expect(session("self")).not.toBe(String(pid));
});

test("only the process that was meant is ended", async () => {
  const child = Bun.spawn(["sleep", "60"]);
  // spawn comes back a moment before the kernel has noted the new program's command line.
  while (readFileSync(`/proc/${child.pid}/cmdline`, "utf8") === "") Bun.sleepSync(1);
  const known = identify(child.pid)!;
  expect(endProcess(known, "lab-keep")).toBe(false);
  expect(endProcess({ ...known, start: known.start + 1 }, "sleep")).toBe(false);
  expect(isRunning(known, "sleep")).toBe(true);
  expect(endProcess(known, "sleep")).toBe(true);
  expect(await child.exited).toBe(128 + SIGKILL);
  expect(endProcess(known, "sleep")).toBe(false);
});
