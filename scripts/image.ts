/**
 * Puts together what deploy/Containerfile copies: the built program, and of this machine the libraries that it is linked to,
 * under the paths at which the program looks for them.
 *
 *     bin/bun scripts/image.ts [FOLDER [PROGRAM]]     default: dist/image, dist/wayout
 */
import { chmodSync, copyFileSync, mkdirSync, realpathSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";

const root = join(import.meta.dir, "..");
const [folder = join(root, "dist", "image"), program = join(root, "dist", "wayout")] = process.argv.slice(2);

rmSync(folder, { recursive: true, force: true });
put(program, "/usr/local/bin/wayout", 0o755);
for (const library of linkedTo(program)) put(realpathSync(library), library, 0o755);
// What is mounted into it, or made by it.
for (const empty of ["/run", "/var/lib/wayout", "/tmp", "/proc", "/sys"])
  mkdirSync(join(folder, empty), { recursive: true });
console.log(folder);

function put(from: string, to: string, mode: number): void {
  const path = join(folder, to);
  mkdirSync(dirname(path), { recursive: true });
  copyFileSync(from, path);
  chmodSync(path, mode);
}

/** `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, and the loader without an arrow. */
function linkedTo(path: string): string[] {
  const said = Bun.spawnSync(["ldd", path], { stdout: "pipe", stderr: "pipe" });
  if (said.exitCode !== 0) throw new Error(`ldd ${path}: ${said.stderr.toString().trim()}`);
  return [...said.stdout.toString().matchAll(/(\/\S+) \(0x/g)].map(([, library]) => library!);
}
