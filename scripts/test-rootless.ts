/**
 * The same tests as an ordinary user has them: run by root under an ordinary uid of a user namespace that grants
 * nothing. What they then do, they do in user namespaces of their own.
 */
import { join } from "node:path";
import { waitpid } from "../src/kernel/libc.ts";
import { spawnIn } from "../src/kernel/spawn.ts";
import { CLONE_NEWUSER } from "../src/kernel/namespace.ts";

const ORDINARY_UID = 1000;
const SIGKILL = 9;

const isRoot = process.getuid!() === 0;
const pid = spawnIn(
  isRoot
    ? { newNamespaces: CLONE_NEWUSER, rootFor: { uid: 0, gid: 0, as: ORDINARY_UID }, deathSignal: SIGKILL }
    : { deathSignal: SIGKILL },
  [process.execPath, join(import.meta.dir, "test.ts"), ...process.argv.slice(2)],
  process.env,
);
process.exit(waitpid(pid)?.exitCode ?? 1);
