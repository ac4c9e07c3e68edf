/** How soon the single file answers (a runtime starts it for every pod), and how long the whole story takes. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Benchmark, Side } from "./benchmark.ts";
import { BINARY, buildBinary } from "./binary.ts";

export const benchmarks: readonly Benchmark[] = [
  {
    name: "startup/version",
    what: "dist/wayout --version, beside a compiled Bun program that prints one line",
    target: { ratio: 3, of: "compiled hello" },
    async run(context) {
      buildBinary();
      const hello = await compileHello(context.directory);
      return context.compare(
        { ours: program("wayout", [BINARY, "--version"]), reference: program("compiled hello", [hello]) },
        { rounds: 50, warmUp: 3 },
      );
    },
  },
  {
    name: "startup/lab",
    what: "dist/wayout lab: the whole story, from nothing to nothing left",
    target: { ratio: 1, of: "5 s" },
    async run(context) {
      buildBinary();
      const measured = await context.compare({ ours: program("wayout", [BINARY, "lab"]) }, { rounds: 3 });
      return { ...measured, reference: context.budget("5 s", 5000) };
    },
  },
];

function program(name: string, command: readonly string[]): Side {
  return {
    name,
    run() {
      const child = Bun.spawnSync([...command], { stdout: "pipe", stderr: "pipe" });
      if (child.exitCode !== 0) {
        throw new Error(`${command.join(" ")} ended with ${child.exitCode}: ${child.stderr.toString()}`);
      }
    },
  };
}

async function compileHello(directory: string): Promise<string> {
  const source = join(directory, "hello.ts");
  const outfile = join(directory, "hello");
  writeFileSync(source, 'console.log("hello");\n');
  const built = await Bun.build({
    entrypoints: [source],
    compile: { outfile },
    minify: true,
    bytecode: true,
    format: "esm",
  });
  if (!built.success) throw new Error(built.logs.map((log) => log.message).join("\n"));
  return outfile;
}
