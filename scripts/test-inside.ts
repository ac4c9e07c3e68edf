/** The inner half of scripts/test.ts: in fresh namespaces, makes the places private that tests write to, then tests. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import * as libc from "../src/kernel/libc.ts";
import { MS_PRIVATE, MS_REC } from "../src/kernel/namespace.ts";

const root = join(import.meta.dir, "..");
const [report, ...paths] = process.argv.slice(2) as [string, ...string[]];

libc.mount("none", "/", "none", MS_PRIVATE | MS_REC);
libc.mount("tmpfs", "/run", "tmpfs", 0, "mode=755");
mkdirSync("/run/lock", { recursive: true });
try {
  libc.mount("sysfs", "/sys", "sysfs", 0);
  libc.mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0);
} catch {
  // Without a fresh sysfs the tests still run; only runtimes that want cgroups would miss them.
}
// State that the plugins of this machine may keep is not for tests to see.
for (const directory of ["/var/lib/cni", "/etc/cni", "/etc/netns"]) {
  try {
    mkdirSync(directory, { recursive: true });
    libc.mount("tmpfs", directory, "tmpfs", 0, "mode=755");
  } catch {
    // An ordinary user cannot make them; then no test can write there either.
  }
}
libc.execve(
  process.execPath,
  [
    process.execPath,
    "test",
    "--timeout=60000",
    "--reporter=junit",
    `--reporter-outfile=${report}`,
    ...(paths.length > 0 ? paths.map((path) => join(process.cwd(), path)) : [join(root, "test")]),
  ],
  process.env,
);
