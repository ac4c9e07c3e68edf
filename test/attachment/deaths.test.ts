/** SIGKILL before each system call that changes something: whatever is left, the next command takes away. */
import { expect } from "bun:test";
import { existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { NETNS_DIRECTORY, type NetworkNamespace } from "../../src/kernel/namespace.ts";
import { pluginProgram } from "../cni/plugin.ts";
import { afterThisTest } from "../support/teardown.ts";
import { run, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";
import { freshName, nodeState, world } from "./world.ts";

const withStrace = testWith(["root", "ip", "nft", "strace"]);

/** The other spellings are other architectures'. */
const CHANGING = [
  "sendto",
  "write,pwrite64",
  "?mkdir,?mkdirat",
  "?rename,?renameat,?renameat2",
  "?unlink,?unlinkat,?rmdir",
  "mount,umount2",
  "unshare",
  "fsync",
  "flock",
];

/** Kills the command before the n-th system call of a kind. False when it does not come to that. */
function dies(node: NetworkNamespace, kind: string, nth: number, args: readonly string[]): boolean {
  const tracer = ["strace", "-f", "-o", "/dev/null", "-e", `trace=${kind}`];
  const inject = ["-e", `inject=${kind}:signal=KILL:when=${nth}`];
  return run(node, [...tracer, ...inject, pluginProgram(), ...args]).exitCode !== 0;
}

function succeeds(node: NetworkNamespace, ...args: string[]): void {
  const { exitCode, stdout, stderr } = run(node, [pluginProgram(), ...args]);
  if (exitCode !== 0) throw new Error(`wayout ${args.join(" ")} ended with ${exitCode}: ${stdout}${stderr}`);
}

/** Of the messages to the kernel there are so many that every third tells enough. */
const STEPS: Readonly<Record<string, number>> = { sendto: 3 };
/** What is left stays left: it is enough to look now and then, which costs more than the commands themselves. */
const LOOK_EVERY = 4;

/** Kills at every point in turn. Returns at how many. */
function everywhere(
  attempt: (kind: string, nth: number) => boolean,
  look: (kind: string, nth: number) => void,
): number {
  let points = 0;
  for (const kind of CHANGING) {
    let nth = 1;
    for (; attempt(kind, nth); nth += STEPS[kind] ?? 1) if (++points % LOOK_EVERY === 0) look(kind, nth);
    look(kind, nth);
  }
  return points;
}

/** Names of namespaces, mounted or not: a file that nothing is mounted on keeps its name from everybody. */
function names(): string[] {
  return existsSync(NETNS_DIRECTORY) ? readdirSync(NETNS_DIRECTORY) : [];
}

withStrace(
  "attach: the same again works, and so does another; in the end nothing is left",
  () => {
    const { node } = world();
    const [blue, green] = [freshName(), freshName("green")];
    const before = [nodeState(node), names()];
    let turn = 0;
    const look = (kind: string, nth: number): void => {
      expect([kind, nth, nodeState(node), names()]).toEqual([kind, nth, ...before]);
    };
    const points = everywhere((kind, nth) => {
      const died = dies(node, kind, nth, ["attach", blue, "--create", "--dns", "198.51.100.53"]);
      const next = turn++ % 2 === 0 ? blue : green;
      succeeds(node, "attach", next, "--create");
      // The killed one may have been whole already.
      run(node, [pluginProgram(), "detach", blue]);
      if (next === green) succeeds(node, "detach", green);
      return died;
    }, look);
    expect(points).toBeGreaterThan(25);
  },
  240_000,
);

withStrace(
  "detach: the next one finishes it, of this namespace or another",
  () => {
    const { node } = world();
    const [blue, green] = [freshName(), freshName("green")];
    const before = [nodeState(node), names()];
    let turn = 0;
    const look = (kind: string, nth: number): void => {
      expect([kind, nth, nodeState(node), names()]).toEqual([kind, nth, ...before]);
    };
    const points = everywhere((kind, nth) => {
      succeeds(node, "attach", blue, "--create", "--dns", "198.51.100.53");
      const died = dies(node, kind, nth, ["detach", blue]);
      if (turn++ % 2 === 0) run(node, [pluginProgram(), "detach", blue]);
      else {
        succeeds(node, "attach", green, "--create");
        succeeds(node, "detach", green);
        // Killed before its first note, it was not begun.
        run(node, [pluginProgram(), "detach", blue]);
      }
      return died;
    }, look);
    expect(points).toBeGreaterThan(12);
  },
  240_000,
);

withStrace(
  "nat apply and nat remove: the next one leaves all or nothing",
  () => {
    const node = freshNamespace("node");
    afterThisTest(() => rmSync("/run/wayout", { recursive: true, force: true }));
    const policy = join(import.meta.dir, "..", "..", "examples", "nat-policy.yaml");
    const before = nodeState(node);
    const apply = ["nat", "apply", "-f", policy, "--json"];
    const look = (kind: string, nth: number): void => {
      expect([kind, nth, nodeState(node)]).toEqual([kind, nth, before]);
    };
    for (const args of [apply, ["nat", "remove"]]) {
      const points = everywhere((kind, nth) => {
        if (args !== apply) succeeds(node, ...apply);
        const died = dies(node, kind, nth, args);
        if (nth % 2 === 0) succeeds(node, ...apply);
        succeeds(node, "nat", "remove");
        return died;
      }, look);
      expect(points).toBeGreaterThan(4);
    }
  },
  240_000,
);
