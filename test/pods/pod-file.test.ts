/** Files of a pod that nobody answers for: a file system in user space whose server keeps silent. */
import { expect } from "bun:test";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterThisTest } from "../support/teardown.ts";
import { run, testWith } from "../support/witness.ts";

const test = testWith(["real-root", "busybox"]);
const WAYOUT = join(import.meta.dir, "..", "..", "bin", "wayout");

/** A process in a root of its own; `mount` is done in its mount namespace before. */
async function podProcess(mount: string): Promise<number> {
  const root = mkdtempSync(join(tmpdir(), "wayout-pod-root-"));
  for (const name of ["bin", "etc"]) mkdirSync(join(root, name));
  copyFileSync(Bun.which("busybox")!, join(root, "bin", "busybox"));
  writeFileSync(join(root, "etc", "resolv.conf"), "nameserver 198.51.100.53\n");
  const script = `${mount}\necho ready\nexec chroot ${root} /bin/busybox sleep 60`;
  const child = Bun.spawn(["unshare", "-mn", "--propagation", "private", "bash", "-c", script], {
    stdout: "pipe",
    stderr: "inherit",
    env: { ...process.env, ROOT: root },
  });
  afterThisTest(async () => {
    child.kill("SIGKILL");
    await child.exited;
    rmSync(root, { recursive: true, force: true });
  });
  await child.stdout[Symbol.asyncIterator]().next();
  while (!(await Bun.file(`/proc/${child.pid}/cmdline`).text()).includes("sleep")) await Bun.sleep(5);
  return child.pid;
}

/** What a trace says of the pod's name servers: it reads the pod's hosts and resolv.conf, and nobody answers. */
function resolving(pid: number): string {
  const { exitCode, stderr } = run(undefined, [
    WAYOUT,
    "trace",
    `pid:${pid}`,
    "name.example",
    "--timeout",
    "200",
  ]);
  expect(exitCode).toBe(1);
  return stderr;
}

test("a file that can be read is read", async () => {
  expect(resolving(await podProcess("true"))).toContain("198.51.100.53: ");
});

test("one whose server keeps silent is given up, and said to be unread", async () => {
  const pid = await podProcess(
    'exec 9<>/dev/fuse; mount -i -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0 silent "$ROOT/etc"',
  );
  expect(resolving(pid)).toContain("/etc/resolv.conf: its file system did not answer within 1 s");
});

test("one on what the pod mounted itself is read by another process, and comes back whole", async () => {
  const pid = await podProcess(
    'mount -t tmpfs own "$ROOT/etc"; mkdir "$ROOT/etc/up" "$ROOT/etc/work" "$ROOT/etc/low" "$ROOT/over"; mount -t overlay -o lowerdir="$ROOT/etc/low",upperdir="$ROOT/etc/up",workdir="$ROOT/etc/work" own "$ROOT/over"; echo "nameserver 198.51.100.54" > "$ROOT/over/resolv.conf"; mount --bind "$ROOT/over" "$ROOT/etc"',
  );
  expect(resolving(pid)).toContain("198.51.100.54: ");
});
