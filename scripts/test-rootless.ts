/**
 * The same tests as an ordinary user has them: run by root under an ordinary uid of a user namespace that grants
 * nothing. What they then do, they do in user namespaces of their own. Without paths: all but those of which the run
 * as root says everything.
 */
import { readdirSync } from "node:fs";
import { join, relative } from "node:path";
import { waitpid } from "../src/kernel/libc.ts";
import { spawnIn } from "../src/kernel/spawn.ts";
import { CLONE_NEWUSER } from "../src/kernel/namespace.ts";

const ORDINARY_UID = 1000;
const SIGKILL = 9;

/** Below test/: what only a node's root runs, and long rows that do not ask who runs them. */
const AS_ROOT_ONLY = [
  "admission",
  "agent",
  "attachment/crash.test.ts",
  "attachment/deaths.test.ts",
  "cli/kubectl.test.ts",
  "cli/pasted.test.ts",
  "cni/deaths.test.ts",
  "cni/faults.test.ts",
  "cni/install.test.ts",
  "cni/migration.test.ts",
  "cni/translation.test.ts",
  "doctor/flushed.test.ts",
  "doctor/kinds.test.ts",
  "doctor/matrix.test.ts",
  "doctor/nobody-tried.test.ts",
  "doctor/pods-word.test.ts",
  "doctor/predict-facts.test.ts",
  "doctor/predict-xtables.test.ts",
  "doctor/reports.test.ts",
  "doctor/seen.test.ts",
  "doctor/strangers.test.ts",
  "engine",
  "kubernetes",
  "nat/deaths.test.ts",
  "nat/fourth-backend.test.ts",
  "page",
  "trace/dnat.test.ts",
  "trace/faults.test.ts",
];

const root = join(import.meta.dir, "..");
const isRoot = process.getuid!() === 0;
const asked = process.argv.slice(2);
const pid = spawnIn(
  isRoot
    ? { newNamespaces: CLONE_NEWUSER, rootFor: { uid: 0, gid: 0, as: ORDINARY_UID }, deathSignal: SIGKILL }
    : { deathSignal: SIGKILL },
  [process.execPath, join(import.meta.dir, "test.ts"), ...(asked.length > 0 ? asked : ordinary("test"))],
  process.env,
);
process.exit(waitpid(pid)?.exitCode ?? 1);

/** The test files and folders in which nothing is left out, from where we were called. */
function ordinary(directory: string): string[] {
  return readdirSync(join(root, directory), { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name);
    const below = relative("test", path);
    if (AS_ROOT_ONLY.includes(below)) return [];
    if (entry.isDirectory() && AS_ROOT_ONLY.some((one) => one.startsWith(`${below}/`))) return ordinary(path);
    return entry.isDirectory() || entry.name.endsWith(".test.ts")
      ? [relative(process.cwd(), join(root, path))]
      : [];
  });
}
