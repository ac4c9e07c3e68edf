/** `lab up` and `lab down` that die before any of their system calls: the next command mends it, and nothing is left. */
import { expect } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { waitpid } from "../../src/kernel/libc.ts";
import { namedNamespaces } from "../../src/kernel/named-namespace.ts";
import { CLONE_NEWUSER } from "../../src/kernel/namespace.ts";
import { spawnIn } from "../../src/kernel/spawn.ts";
import { LAB_NAMESPACES } from "../../src/lab/plan.ts";
import { pluginProgram } from "../cni/plugin.ts";
import { deathsIn, deathsOf, dies, dying, hasDied, recording, spread } from "../support/deaths.ts";
import { afterThisTest } from "../support/teardown.ts";
import { run, testWith } from "../support/witness.ts";
import { someoneRuns } from "./own-processes.ts";

const VERBS = ["up", "down"] as const;
/** A lab takes its time to come up, once or twice a death. */
const MOST_OF_A_CALL = 4;

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

for (const verb of VERBS) {
  testWith(["root", "strace"])(
    `${verb}: killed before any of its system calls`,
    () => {
      const lab = (word: string): number => run(undefined, [pluginProgram(), "lab", word]).exitCode;
      // What it starts stays up, and is no part of its death.
      const mortal = { node: undefined, command: [pluginProgram(), "lab", verb], alone: true } as const;
      if (verb === "down") expect(lab("up")).toBe(0);
      const deaths = spread(deathsOf(mortal), MOST_OF_A_CALL);
      expect(lab("down")).toBe(0);
      const before = traces();
      let died = 0;
      for (const [turn, death] of deaths.entries()) {
        if (verb === "down") expect(lab("up")).toBe(0);
        if (dies(mortal, death)) died++;
        if (turn % 2 === 0) expect([death, lab("up"), lab("status")]).toEqual([death, 0, 0]);
        expect(lab("down")).toBe(0);
        expect([death, traces()]).toEqual([death, before]);
      }
      expect(died).toBeGreaterThan(12);
      expect(someoneRuns(pluginProgram())).toBe(false);
    },
    240_000,
  );
}

testWith(["root", "strace"])(
  "the same as an ordinary user, whose keeper ends, too",
  () => {
    const session = mkdtempSync(join(tmpdir(), "wayout-deaths-"));
    const log = `${session}.log`;
    afterThisTest(() => {
      for (const path of [session, log]) rmSync(path, { recursive: true, force: true });
    });
    // All of it in one user namespace: who is in another has no right over the keeper's.
    const asUser = (...script: readonly string[]): number => {
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
    const lab = (verb: string): string => `${pluginProgram()} lab ${verb}`;
    const logged = (): string => readFileSync(log, "utf8");
    let died = 0;
    for (const verb of VERBS) {
      const begin = verb === "down" ? [`${lab("up")} || exit 41`] : [];
      const recorded = [...recording(log, true), lab(verb)].join(" ").replaceAll("?", "\\?");
      expect([verb, asUser(...begin, `${recorded} || exit 40`, `${lab("down")} || exit 44`)]).toEqual([
        verb,
        0,
      ]);
      for (const [turn, death] of spread(deathsIn(logged()), MOST_OF_A_CALL).entries()) {
        const ended = asUser(
          ...begin,
          [...dying(death, log, true), lab(verb)].join(" "),
          ...(turn % 2 === 0 ? [`${lab("up")} || exit 42; ${lab("status")} || exit 43`] : []),
          `${lab("down")} || exit 44`,
        );
        expect([verb, death, ended, readdirSync(session)]).toEqual([verb, death, 0, []]);
        if (hasDied(logged())) died++;
      }
    }
    expect(died).toBeGreaterThan(12);
    expect(someoneRuns(pluginProgram())).toBe(false);
  },
  240_000,
);
