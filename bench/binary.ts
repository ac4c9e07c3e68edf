/** The single file as people install it, for benchmarks of the whole program. */
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dir, "..");
export const BINARY = join(root, "dist", "wayout");
/** The plugin as a small program; not there where no compiler for C is. */
export const PLUGIN = join(root, "dist", "wayout-cni");

/** Measures this checkout, not a build of yesterday. */
export function buildBinary(): void {
  const newest = Math.max(
    ...[...new Bun.Glob("{src,engine}/**/*.{ts,c,h}").scanSync(root)].map(
      (file) => statSync(join(root, file)).mtimeMs,
    ),
  );
  if (existsSync(BINARY) && statSync(BINARY).mtimeMs > newest) return;
  const child = Bun.spawnSync([process.execPath, join(root, "scripts", "build.ts")], {
    stdout: "pipe",
    stderr: "pipe",
  });
  if (child.exitCode !== 0) throw new Error(`building dist/wayout: ${child.stderr.toString()}`);
}
