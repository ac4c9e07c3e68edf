/** What the lab is to the one who starts it: it holds nothing of his, and trusts nothing that others prepared. */
import { afterEach, expect } from "bun:test";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { identify, isRunning } from "../../src/kernel/process.ts";
import { StateFolder } from "../../src/kernel/state-folder.ts";
import { afterThisTest } from "../support/teardown.ts";
import { isRealRoot, run, testWith } from "../support/witness.ts";

const WAYOUT = join(import.meta.dir, "..", "..", "bin", "wayout");
const STATE = "/run/wayout/lab.json";

afterEach(() => {
  run(undefined, [WAYOUT, "lab", "down"]);
});

function shell(script: string): ReturnType<typeof run> {
  return run(undefined, ["sh", "-c", script], undefined, { ...process.env, WAYOUT });
}

testWith(["root", "flock"])("what stays up holds no pipe, lock or folder of its caller", () => {
  // Each of these reads to the end of what the lab could hold open, and would wait for `lab down`.
  expect(shell("$WAYOUT lab up 3>&1 | cat")).toMatchObject({ exitCode: 0 });
  const folder = mkdtempSync(join(tmpdir(), "wayout-caller-"));
  expect(shell("$WAYOUT lab down 2>&1 | cat")).toMatchObject({ exitCode: 0 });
  const locked = `cd ${folder} && exec 9>lock && flock 9 && $WAYOUT lab up && exec 9>&- && flock -n lock true`;
  expect(shell(locked)).toMatchObject({ exitCode: 0 });
  const { servers } = JSON.parse(readFileSync(STATE, "utf8")) as { servers: { pid: number } };
  expect(readlinkSync(`/proc/${servers.pid}/cwd`)).toBe("/");
});

testWith(["root"])("down ends the lab's own servers, and no other process that a note names", async () => {
  run(undefined, [WAYOUT, "lab", "up"]);
  const bystander = Bun.spawn(["sleep", "60"]);
  const state = JSON.parse(readFileSync(STATE, "utf8")) as { servers: { pid: number; start: number } };
  const { servers } = state;
  writeFileSync(STATE, JSON.stringify({ ...state, servers: identify(bystander.pid) }));
  expect(run(undefined, [WAYOUT, "lab", "down"])).toMatchObject({ exitCode: 0 });
  expect(isRunning(identify(bystander.pid)!, "sleep")).toBe(true);
  bystander.kill();
  await bystander.exited;
  process.kill(servers.pid, "SIGKILL");
});

testWith(["root"])("its files have the modes that are meant, whatever the umask", () => {
  const modes = (umask: string): string => {
    expect(shell(`umask ${umask}; $WAYOUT lab up`)).toMatchObject({ exitCode: 0 });
    // A program that is started there gets the caller's umask.
    expect(shell(`umask ${umask}; $WAYOUT lab exec ns-blue -- sh -c umask`).stdout.trim()).toBe(umask);
    const resolver = shell(`umask ${umask}; $WAYOUT lab exec ns-blue -- stat -c %a /etc/resolv.conf`);
    expect(resolver.stdout.trim()).toBe("644");
    const found = shell("find /run/wayout /run/netns /etc/netns -printf '%m %p\\n' | sort -k2").stdout;
    expect(run(undefined, [WAYOUT, "lab", "down"]).exitCode).toBe(0);
    return found;
  };
  const usual = modes("0022");
  expect(usual).toContain("644 /run/wayout/lab.json");
  expect(modes("0000")).toBe(usual);
  expect(modes("0077")).toBe(usual);
});

/** Makes this process's environment name `path` as the session's folder, until the test ends. */
function sessionFolder(): string {
  const path = mkdtempSync(join(tmpdir(), "wayout-session-"));
  const before = process.env["XDG_RUNTIME_DIR"];
  process.env["XDG_RUNTIME_DIR"] = path;
  afterThisTest(() => {
    rmSync(path, { recursive: true, force: true });
    if (before === undefined) delete process.env["XDG_RUNTIME_DIR"];
    else process.env["XDG_RUNTIME_DIR"] = before;
  });
  return path;
}

testWith([])("a user's state lies in a folder that only he can write in", () => {
  const path = join(sessionFolder(), "wayout");
  expect(StateFolder.find()).toBeUndefined();
  const umask = process.umask(0o777);
  try {
    using folder = StateFolder.make();
    expect(statSync(path).mode & 0o777).toBe(0o700);
    process.umask(0);
    folder.write("note", "one");
    folder.write("note", "two");
    expect(folder.read("note")).toBe("two");
    expect(statSync(join(path, "note")).mode & 0o777).toBe(0o600);
    expect(readdirSync(path)).toEqual(["note"]);
  } finally {
    process.umask(umask);
  }
});

testWith(["real-root"])("a session's folder that is none is not used", () => {
  const session = sessionFolder();
  const others = join(session, "others");
  mkdirSync(others);
  chownSync(others, 4711, 4711);
  writeFileSync(join(session, "file"), "");
  symlinkSync(others, join(session, "link"));
  const before = process.cwd();
  process.chdir(session);
  afterThisTest(() => process.chdir(before));
  for (const strange of [
    "",
    ".",
    "..",
    "others",
    others,
    join(session, "file"),
    join(session, "link"),
    "/nowhere",
  ]) {
    process.env["XDG_RUNTIME_DIR"] = strange;
    using folder = StateFolder.make();
    expect([strange, folder.path]).toEqual([strange, "/tmp/wayout-0"]);
    folder.removeIfEmpty();
  }
  expect(readdirSync(session).sort()).toEqual(["file", "link", "others"]);
  expect(readdirSync(others)).toEqual([]);
});

testWith(["real-root"])("a folder that another user made first is not used, and stays as it is", () => {
  const path = join(sessionFolder(), "wayout");
  mkdirSync(path, { mode: 0o700 });
  writeFileSync(join(path, "lab-keeper.json"), '{"pid":1,"start":0}');
  chownSync(path, 4711, 4711);
  expect(() => StateFolder.make()).toThrow("it belongs to uid 4711");
  expect(() => StateFolder.find()).toThrow("it belongs to uid 4711");
  expect([statSync(path).uid, statSync(path).mode & 0o777]).toEqual([4711, 0o700]);
});

testWith([])("what somebody else put there is neither read nor written", () => {
  const path = join(sessionFolder(), "wayout");
  const precious = join(path, "..", "precious");
  writeFileSync(precious, "precious");
  using folder = StateFolder.make();
  symlinkSync(precious, join(path, "note"));
  expect(folder.read("note")).toBeUndefined();
  folder.write("note", "ours");
  expect(readFileSync(precious, "utf8")).toBe("precious");
  expect(folder.read("note")).toBe("ours");
  run(undefined, ["mkfifo", join(path, "fifo")]);
  expect(folder.read("fifo")).toBeUndefined();
});

testWith([])("a folder that others can write in, or a link to one, is not used", () => {
  const path = join(sessionFolder(), "wayout");
  mkdirSync(path);
  chmodSync(path, 0o777);
  expect(() => StateFolder.make()).toThrow("others may write in it");
  rmSync(path, { recursive: true });
  symlinkSync(tmpdir(), path);
  expect(() => StateFolder.make()).toThrow("it is a link");
  expect(() => StateFolder.find()).toThrow("it is a link");
  rmSync(path);
  writeFileSync(path, "");
  expect(() => StateFolder.find()).toThrow("it is a link or a file");
  rmSync(path);
  if (!isRealRoot) return;
  mkdirSync(path);
  chownSync(path, 65_534, 65_534);
  expect(() => StateFolder.find()).toThrow("belongs to uid 65534");
  expect(existsSync(path)).toBe(true);
});
