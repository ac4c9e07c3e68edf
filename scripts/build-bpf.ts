/**
 * Compiles the eBPF programs with clang, and writes the object as a module beside their source, so that building and
 * running wayout needs no compiler. With --check nothing is written: the exit code tells whether the object is of this
 * source. Another version of clang may make other, equally good instructions; the one it was made by is written down.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const directory = join(import.meta.dir, "..", "src", "nat", "backends", "ebpf", "program");
const module = join(directory, "nat.bpf.ts");

const scratch = mkdtempSync(join(tmpdir(), "wayout-bpf-"));
try {
  const made = compiled(join(scratch, "nat.o"));
  if (!process.argv.includes("--check")) await Bun.write(module, made);
  else if (readFileSync(module, "utf8") !== made) {
    console.error(
      "src/nat/backends/ebpf/program/nat.bpf.ts is not what clang makes of its source: npm run build:bpf",
    );
    process.exitCode = 1;
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}

function compiled(object: string): string {
  // Debian keeps asm/ in a folder of the machine's.
  const headers = `/usr/include/${process.arch === "arm64" ? "aarch64" : "x86_64"}-linux-gnu`;
  const warnings =
    "-Wall -Wextra -Werror -Wno-missing-field-initializers -Wno-unused-function -Wno-unused-parameter";
  const options = `-target bpfel -mcpu=v3 -O2 ${warnings} -idirafter ${headers} -c nat.bpf.c -o`;
  run(["clang", ...options.split(" "), object]);
  run(["llvm-strip", "--strip-unneeded", object]);
  const version = run(["clang", "--version"]).split("\n")[0]!;
  const bytes = readFileSync(object);
  const lines = [
    "/**",
    ` * What ${version} makes of nat.bpf.c: an ELF file in base64. Made by`,
    " * `npm run build:bpf`, never by hand.",
    " */",
    `export const NAT_PROGRAMS =\n  "${bytes.toString("base64")}";`,
    "",
    "/** By which it is known which of them are loaded. */",
    `export const NAT_PROGRAMS_HASH = "${new Bun.CryptoHasher("sha256").update(bytes).digest("hex").slice(0, 16)}";`,
    "",
  ];
  return lines.join("\n");
}

function run(command: readonly string[]): string {
  const child = Bun.spawnSync([...command], { cwd: directory, stdout: "pipe", stderr: "inherit" });
  if (child.exitCode !== 0) throw new Error(`${command[0]} ended with ${child.exitCode}`);
  return child.stdout.toString();
}
