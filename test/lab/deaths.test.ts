/** `lab up` and `lab down` that die before any of their system calls: the next command mends it, and nothing is left. */
import { expect } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { waitpid } from "../../src/kernel/libc.ts";
import { namedNamespaces } from "../../src/kernel/named-namespace.ts";
import { CLONE_NEWUSER } from "../../src/kernel/namespace.ts";
import { spawnIn } from "../../src/kernel/spawn.ts";
import { LAB_NAMESPACES } from "../../src/lab/plan.ts";
import { afterThisTest } from "../support/teardown.ts";
import { run, testWith } from "../support/witness.ts";
import { someoneRuns } from "./own-processes.ts";

const ROOT = join(import.meta.dir, "..", "..");
const WAYOUT = join(ROOT, "bin", "wayout");

/**
 * The kinds of system calls by which the lab changes something, and every how many-th of them is died before: of those
 * that come in dozens not all. The other spellings are other architectures'.
 */
const CHANGING: Readonly<Record<string, number>> = {
  "?mkdir,?mkdirat": 1,
  "?rename,?renameat,?renameat2": 1,
  "?unlink,?unlinkat,?rmdir": 1,
  mount: 4,
  umount2: 3,
  unshare: 2,
  "?clone,?fork,?vfork": 1,
  pidfd_send_signal: 1,
  flock: 1,
  setns: 29,
  sendto: 41,
};

/** The command line of `wayout lab VERB` that dies before the n-th system call of a kind. */
function dying(kind: string, nth: number, verb: string): string[] {
  const tracer = ["strace", "-o", "/dev/null", "-e", `trace=${kind}`];
  return [...tracer, "-e", `inject=${kind}:signal=KILL:when=${nth}`, WAYOUT, "lab", verb];
}

/** Dies at every point in turn; `attempt` tells whether it came to that. Returns at how many. */
function everywhere(kinds: readonly string[], attempt: (kind: string, nth: number) => boolean): number {
  let points = 0;
  for (const kind of kinds) {
    for (let nth = 1; attempt(kind, nth); nth += CHANGING[kind]!) points++;
  }
  return points;
}

/** What the lab makes outside its namespaces. */
function traces(): unknown {
  const listed = (path: string): string[] => (existsSync(path) ? readdirSync(path) : []);
  const notes = listed("/run/wayout").filter((name) => name.startsWith("lab"));
  // Others of this machine have resolver files there as well.
  const resolvers = listed("/etc/netns").filter((name) =>
    (LAB_NAMESPACES as readonly string[]).includes(name),
  );
  return { notes, namespaces: namedNamespaces(), resolvers };
}

for (const verb of ["up", "down"] as const) {
  testWith(["root", "strace"])(
    `${verb}: killed before any of its system calls`,
    () => {
      const lab = (word: string): number => run(undefined, [WAYOUT, "lab", word]).exitCode;
      const before = traces();
      let turn = 0;
      const points = everywhere(Object.keys(CHANGING), (kind, nth) => {
        if (verb === "down") expect(lab("up")).toBe(0);
        const died = run(undefined, dying(kind, nth, verb)).exitCode !== 0;
        if (turn++ % 2 === 0) expect([kind, nth, lab("up"), lab("status")]).toEqual([kind, nth, 0, 0]);
        expect(lab("down")).toBe(0);
        expect([kind, nth, traces()]).toEqual([kind, nth, before]);
        return died;
      });
      expect(points).toBeGreaterThan(10);
      expect(someoneRuns()).toBe(false);
    },
    240_000,
  );
}

testWith(["root", "strace"])(
  "the same as an ordinary user, whose keeper ends, too",
  () => {
    const session = mkdtempSync(join(tmpdir(), "wayout-deaths-"));
    afterThisTest(() => rmSync(session, { recursive: true, force: true }));
    // All of it in one user namespace: who is in another has no right over the keeper's.
    const asUser = (script: readonly string[]): number => {
      const pid = spawnIn(
        {
          newNamespaces: CLONE_NEWUSER,
          rootFor: { uid: process.getuid!(), gid: process.getgid!(), as: 1000 },
          deathSignal: 9,
          detached: true,
        },
        ["/bin/sh", "-c", script.join("; ")],
        { ...process.env, XDG_RUNTIME_DIR: session },
      );
      return waitpid(pid)!.exitCode;
    };
    const kinds = [
      "?mkdir,?mkdirat",
      "?unlink,?unlinkat,?rmdir",
      "?clone,?fork,?vfork",
      "flock",
      "pidfd_send_signal",
    ];
    let turn = 0;
    const ALIVE = 40;
    for (const verb of ["up", "down"]) {
      everywhere(kinds, (kind, nth) => {
        const ended = asUser([
          ...(verb === "down" ? [`${WAYOUT} lab up || exit 41`] : []),
          `died=0; ${dying(kind, nth, verb).join(" ").replaceAll("?", "\\?")} || died=1`,
          ...(turn++ % 2 === 0 ? [`${WAYOUT} lab up || exit 42; ${WAYOUT} lab status || exit 43`] : []),
          `${WAYOUT} lab down || exit 44`,
          `test $died = 1 || exit ${ALIVE}`,
        ]);
        expect([verb, kind, nth, [0, ALIVE]]).toEqual([verb, kind, nth, expect.arrayContaining([ended])]);
        expect([verb, kind, nth, readdirSync(session)]).toEqual([verb, kind, nth, []]);
        return ended !== ALIVE;
      });
    }
    expect(turn).toBeGreaterThan(10);
    expect(someoneRuns()).toBe(false);
  },
  240_000,
);
