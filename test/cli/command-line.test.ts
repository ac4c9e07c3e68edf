/** The command line as a whole: what help says, which exit code means what, that --json is nothing but JSON. */
import { describe, expect, test } from "bun:test";
import type { Command } from "commander";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { COMMANDS } from "../../src/cli/commands.ts";
import { VERSION } from "../../src/version.ts";
import { close, pipe } from "../../src/kernel/libc.ts";
import { run, testWith, type Ran } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";

const ROOT = join(import.meta.dir, "..", "..");
const WAYOUT = join(ROOT, "bin", "wayout");
const visible = COMMANDS.filter((entry) => entry.hidden !== true);
const commands = await Promise.all(visible.map((entry) => entry.load()));

const wayout = (...args: string[]): Ran => run(undefined, [WAYOUT, ...args]);

/** Every command and sub-command, with the words that lead to it. */
function* everyCommand(
  list: readonly Command[],
  words: readonly string[] = [],
): Generator<{ readonly words: string[]; readonly command: Command }> {
  for (const command of list) {
    const path = [...words, command.name()];
    yield { words: path, command };
    yield* everyCommand(command.commands, path);
  }
}

const all = [...everyCommand(commands)];
const leaves = all.filter(({ command }) => command.commands.length === 0);

describe("a command that ends soon", () => {
  /** What a program of ours has when the command is about to be carried out: as it was started, and to hand on. */
  const optionsOf = (command: string, environment: Readonly<Record<string, string>> = {}): string[][] => {
    const program = `
      import { readFileSync } from "node:fs";
      import { holdBackCompilers } from ${JSON.stringify(join(ROOT, "src", "cli", "engine-options.ts"))};
      await holdBackCompilers(process.argv[2]);
      const engine = (names) => names.filter((name) => name.startsWith("BUN_JSC_")).sort();
      const started = readFileSync("/proc/self/environ", "utf8").split("\\0");
      console.log(JSON.stringify([engine(started), engine(Object.keys(process.env)), process.argv.slice(2)]));`;
    const directory = mkdtempSync(join(tmpdir(), "wayout-engine-"));
    try {
      const file = join(directory, "program.ts");
      writeFileSync(file, program);
      const child = Bun.spawnSync([process.execPath, file, command, "--and", "more words"], {
        env: { ...process.env, ...environment },
        timeout: 20_000,
      });
      return JSON.parse(child.stdout.toString()) as string[][];
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  };

  test("is carried out by a process whose compilers wait, and whose children's do not", () => {
    const [started, handedOn, words] = optionsOf("doctor");
    expect(started).toEqual(["BUN_JSC_thresholdForOptimizeAfterWarmUp=10000", "BUN_JSC_useFTLJIT=0"]);
    expect(handedOn).toEqual([]);
    expect(words).toEqual(["doctor", "--and", "more words"]);
  });

  test("is carried out as it is where somebody else has chosen, and so are all other commands", () => {
    const [started] = optionsOf("snapshot", { BUN_JSC_useFTLJIT: "1" });
    expect(started).toEqual(["BUN_JSC_useFTLJIT=1"]);
    expect(optionsOf("trace")[0]).toEqual([]);
  });
});

describe("help", () => {
  test("each command has a name, a summary and a description that a newcomer can read", () => {
    for (const [index, entry] of visible.entries()) {
      expect(commands[index]!.name()).toBe(entry.name);
      expect(entry.summary.length).toBeGreaterThan(10);
    }
    for (const { words, command } of all) {
      expect([words, command.description().length > 10]).toEqual([words, true]);
      for (const option of command.options) {
        expect([words, option.flags, option.description !== ""]).toEqual([words, option.flags, true]);
      }
      for (const argument of command.registeredArguments) {
        expect([words, argument.name(), argument.description !== ""]).toEqual([words, argument.name(), true]);
      }
    }
  });

  test("is printed by --help and by help, on stdout, with exit code 0", () => {
    for (const { name } of visible) {
      const asked = wayout(name, "--help");
      expect([name, asked.exitCode, asked.stderr]).toEqual([name, 0, ""]);
      expect(asked.stdout).toStartWith(`Usage: wayout ${name}`);
      // Something to copy, or at least more than the list of options.
      expect([name, asked.stdout.split("\n\n").length > 3]).toEqual([name, true]);
      expect(asked.stdout).not.toMatch(/undefined|\[object/);
      expect(wayout("help", name).stdout).toBe(asked.stdout);
    }
  });

  test("lists every command, and without a command is printed with exit code 2", () => {
    const overview = wayout("--help");
    expect(overview.exitCode).toBe(0);
    for (const { name } of visible) expect(overview.stdout).toContain(`\n  ${name}`);
    expect(wayout()).toMatchObject({ exitCode: 2 });
    expect(wayout("--version")).toEqual({ exitCode: 0, stdout: `wayout ${VERSION}\n`, stderr: "" });
  });
});

describe("wrong usage", () => {
  test("exits with 2, says what was wrong and where to look, and prints nothing on stdout", () => {
    for (const args of [["nosuch"], ["--nosuch"], ...visible.map(({ name }) => [name, "--nosuch"])]) {
      const { exitCode, stdout, stderr } = wayout(...args);
      expect([args, exitCode, stdout]).toEqual([args, 2, ""]);
      expect(stderr).toMatch(/nosuch/);
      expect(stderr).toMatch(/--help/);
    }
  });

  test("with --json is one JSON value on stdout and nothing on stderr", () => {
    for (const args of [
      ["nosuch", "--json"],
      ["attach", "--json"],
      ["attach", "x", "--bridge", "far-too-long-a-name", "--json"],
    ]) {
      const { exitCode, stdout, stderr } = wayout(...args);
      expect([args, exitCode, stderr]).toEqual([args, 2, ""]);
      const { error } = JSON.parse(stdout) as { error: Record<string, string> };
      expect(error).toMatchObject({ kind: "usage", code: expect.any(String), message: expect.any(String) });
    }
  });
});

describe("--json", () => {
  /** They print something else than a report: a pod's own output, a document, a stream of JSON lines. */
  const WITHOUT_JSON = new Set(["agent", "lab exec", "snapshot"]);

  test("is known to every command that reports", () => {
    for (const { words, command } of leaves) {
      if (WITHOUT_JSON.has(words.join(" "))) continue;
      const flags = command.options.map(({ long }) => long);
      expect([words, flags.includes("--json")]).toEqual([words, true]);
    }
  });

  testWith(["root", "ip"])("prints one JSON value and nothing else", () => {
    const node = freshNamespace();
    for (const args of [
      ["list"],
      ["forwarding", "show"],
      ["nat", "show"],
      ["conntrack", "list"],
      ["conntrack", "stats"],
      ["lab", "status"],
    ]) {
      const { stdout, stderr } = run(node, [WAYOUT, ...args, "--json"]);
      expect([args, stderr]).toEqual([args, ""]);
      expect(() => JSON.parse(stdout) as unknown).not.toThrow();
    }
  });

  testWith(["root", "ip"])("colour is only for terminals, and for those who ask", () => {
    const node = freshNamespace();
    const ESCAPE = "\u001b";
    const plain = { ...process.env, FORCE_COLOR: undefined, NO_COLOR: undefined };
    const list = [WAYOUT, "list"];
    expect(run(node, list, undefined, plain).stdout).not.toContain(ESCAPE);
    expect(run(node, list, undefined, { ...plain, FORCE_COLOR: "1" }).stdout).toContain(ESCAPE);
    expect(run(node, list, undefined, { ...plain, FORCE_COLOR: "1", NO_COLOR: "1" }).stdout).not.toContain(
      ESCAPE,
    );
  });
});

describe("the documents", () => {
  const DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/architecture.md"];
  const texts = new Map(DOCUMENTS.map((path) => [path, readFileSync(join(ROOT, path), "utf8")]));
  const everything = [...texts.values()].join("\n");

  test("name npm scripts that exist", () => {
    const { scripts } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { scripts: object };
    const named = [...everything.matchAll(/npm run ([a-z:]+)/g)].map(([, name]) => name!);
    expect(named).toContain("lab");
    for (const name of [...named, "test"]) expect(Object.keys(scripts)).toContain(name);
  });

  test("name commands that exist, and README names them all", () => {
    const names = visible.map(({ name }) => name);
    const named = [...everything.matchAll(/`wayout ([a-z]+)/g)].map(([, name]) => name!);
    for (const name of named) expect(names).toContain(name);
    for (const name of names) expect(texts.get("README.md")!).toContain(`\`wayout ${name}`);
  });

  test("link to files that exist", () => {
    for (const [path, text] of texts) {
      for (const [, target] of text.matchAll(/\]\((?!https?:)([^)#]+)\)/g)) {
        const place = join(ROOT, dirname(path), target!);
        expect([path, target, existsSync(place)]).toEqual([path, target, true]);
      }
    }
  });

  test("name source files and folders that exist", () => {
    for (const [, path] of everything.matchAll(/`((?:src|test|bench|scripts|docs|examples)\/[\w./-]*)`/g)) {
      expect([path, existsSync(join(ROOT, path!))]).toEqual([path, true]);
    }
  });
});

test("a reader who has gone is no failure", () => {
  const { readEnd, writeEnd } = pipe();
  close(readEnd);
  for (const args of [["--help"], ["doctor", "--help"], ["list"]]) {
    const child = Bun.spawnSync([WAYOUT, ...args], { stdout: writeEnd, stderr: "pipe" });
    expect([args, child.exitCode, child.stderr.toString()]).toEqual([args, 0, ""]);
  }
  close(writeEnd);
});

describe("an output that takes nothing", () => {
  const into = (target: string, ...args: string[]): Ran =>
    run(undefined, ["sh", "-c", `exec "$0" "$@" ${target}`, WAYOUT, ...args]);

  test.each(["--version", "--help", "list --json"])("full: %s says so, and exits 3", (words) => {
    const args = words.split(" ");
    const told = into(">/dev/full", ...args);
    expect(told.exitCode).toBe(3);
    expect(told.stderr).toMatch(/^✗ writing to standard output: ENOSPC[^\n]*\n$/);
    expect(into(">/dev/full 2>&1", ...args).exitCode).toBe(3);
  });

  test("gone: nobody is left to tell", () => {
    for (const option of ["--version", "--help"]) {
      expect(into("| true", option)).toMatchObject({ exitCode: 0, stderr: "" });
    }
  });

  test("a plugin's answer: it is told on standard error", () => {
    const environment = { ...process.env, CNI_COMMAND: "VERSION" };
    const told = run(undefined, ["sh", "-c", `exec ${WAYOUT} >/dev/full`], undefined, environment);
    expect(told).toMatchObject({ exitCode: 1, stderr: expect.stringMatching(/^[^\n]*ENOSPC[^\n]*\n$/) });
  });
});
