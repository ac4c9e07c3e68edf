/**
 * What the plugin's engine must stand beyond the suite, for whoever changes its C or takes another release of it: the
 * plugin's tests on a program with AddressSanitizer and UndefinedBehaviorSanitizer, ten thousand calls under limits, and a
 * program for arm64 made and run by emulation. Parts may be named: `npm run test:engine -- sanitizers calls arm64`;
 * WAYOUT_CALLS in the environment is another number of calls. What a
 * machine lacks is said, and skipped.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findCompiler } from "./engine/compile.ts";
import { buildPlugin } from "./engine/plugin.ts";

const root = join(import.meta.dir, "..");
const directory = mkdtempSync(join(tmpdir(), "wayout-test-engine-"));
/** Together they execute every command, every backend, every error. */
const PLUGIN_TESTS = ["lifecycle", "refusals", "results", "delegate", "translation", "vlan"].map(
  (name) => `test/cni/${name}.test.ts`,
);
const CALLS = Number(process.env["WAYOUT_CALLS"] ?? 10_000);
/** Where the sanitizer's own tables do not lie (x86-64; its shadow begins below 2 GB and ends at 16 TB). */
const SANITIZED_HEAP = "0x200000000000ul";

type Outcome = "passed" | "failed" | `skipped: ${string}`;

const PARTS: Readonly<Record<string, () => Promise<Outcome>>> = { sanitizers, calls, arm64 };

async function sanitizers(): Promise<Outcome> {
  if (Bun.which("gcc") === null || process.arch !== "x64") return "skipped: it takes gcc on x86-64";
  const program = join(directory, "sanitized");
  await buildPlugin(program, {
    compiler: "gcc",
    isDynamic: true,
    // _FORTIFY_SOURCE would look first, and know less; the engine's own assertions are on.
    flags: ["-fsanitize=address", "-U_FORTIFY_SOURCE", "-UNDEBUG"],
    shimFlags: ["-fsanitize=undefined", "-fno-sanitize-recover=undefined", `-DHEAP_BASE=${SANITIZED_HEAP}`],
  });
  return tests({ WAYOUT_PLUGIN: program }, [...PLUGIN_TESTS, "test/engine/many-calls.test.ts"]);
}

async function calls(): Promise<Outcome> {
  findCompiler();
  return tests({ WAYOUT_CALLS: String(CALLS) }, ["test/engine/many-calls.test.ts"]);
}

/**
 * The emulation of programs knows neither NS_GET_NSTYPE nor NETLINK_NETFILTER, so that only what needs neither can be
 * executed: the image is made, examined and mapped, and the plugin answers.
 */
async function arm64(): Promise<Outcome> {
  const [compiler, runner] = ["aarch64-linux-gnu-gcc", "qemu-aarch64-static"];
  if (Bun.which(compiler) === null || Bun.which(runner) === null) {
    return "skipped: it takes Debian's gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user-static";
  }
  const program = join(directory, "arm64");
  await buildPlugin(program, { compiler, runner: [runner] });
  const network = { cniVersion: "1.1.0", name: "n", type: "wayout", bridge: "b", isGateway: true };
  const input = JSON.stringify({ ...network, ipam: { type: "host-local", subnet: "10.0.0.300/24" } });
  const asked = (command: string): { exitCode: number | null; stdout: string } => {
    const { exitCode, stdout } = Bun.spawnSync([runner, program], {
      stdin: Buffer.from(input),
      env: { CNI_COMMAND: command },
    });
    return { exitCode, stdout: stdout.toString() };
  };
  const version = asked("VERSION");
  const refusal = asked("STATUS");
  const isWell =
    version.exitCode === 0 &&
    version.stdout.includes('"1.1.0"') &&
    refusal.exitCode === 1 &&
    refusal.stdout.includes("10.0.0.300/24");
  if (!isWell) console.log(version, refusal);
  return isWell ? "passed" : "failed";
}

function tests(environment: Readonly<Record<string, string>>, paths: readonly string[]): Outcome {
  const { exitCode } = Bun.spawnSync([process.execPath, join(root, "scripts", "test.ts"), ...paths], {
    cwd: root,
    env: { ...process.env, ...environment },
    stdio: ["ignore", "inherit", "inherit"],
  });
  return exitCode === 0 ? "passed" : "failed";
}

let failed = false;
try {
  const named = process.argv.slice(2);
  for (const name of named.length > 0 ? named : Object.keys(PARTS)) {
    const part = PARTS[name];
    if (part === undefined) throw new Error(`there is no part ${name}: ${Object.keys(PARTS).join(", ")}`);
    const outcome = await part();
    failed ||= outcome === "failed";
    console.log(`${name}: ${outcome}`);
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}
process.exit(failed ? 1 : 0);
