/** What a change must pass besides the tests: types, lint, format, what nobody uses, layers. Exactly what continuous integration runs. */
import { join } from "node:path";

const root = join(import.meta.dir, "..");
const bin = join(root, "node_modules", ".bin");
const CHECKS: readonly (readonly [string, readonly string[]])[] = [
  ["types", [join(bin, "tsc"), "--noEmit"]],
  // Without any runtime's types: what a plugin call executes has the language and platform/ alone.
  ["types of the plugin", [join(bin, "tsc"), "--noEmit", "--project", join(root, "src", "platform")]],
  ["types of the page", [join(bin, "tsc"), "--noEmit", "--project", join(root, "src", "page")]],
  ["lint", [join(bin, "oxlint")]],
  ["format", [join(bin, "oxfmt"), "--check", "."]],
  ["unused", [join(bin, "knip"), "--no-progress"]],
  ["layers", [join(root, "bin", "bun"), "test", join(root, "test", "layers.test.ts")]],
];

let failed = 0;
for (const [name, command] of CHECKS) {
  const child = Bun.spawnSync([...command], { cwd: root, stdout: "pipe", stderr: "pipe" });
  console.log(`${child.exitCode === 0 ? "✓" : "✗"} ${name}`);
  if (child.exitCode !== 0) {
    failed++;
    process.stdout.write(child.stdout);
    process.stderr.write(child.stderr);
  }
}
process.exit(failed === 0 ? 0 : 1);
