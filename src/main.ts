/**
 * Where every run of wayout begins. A runtime that executes us as a CNI plugin sets CNI_COMMAND; a person does not.
 * Each side is imported only when it is needed: a CNI call never loads the command line's code.
 */
import { runPlugin } from "./cni/main.ts";

const isPlugin = process.env["CNI_COMMAND"] !== undefined;
try {
  if (isPlugin) {
    process.exitCode = await runPlugin(process.env);
  } else if (process.argv[2] === "--version" || process.argv[2] === "-V") {
    (await import("./cli/lost-output.ts")).mindLostOutput();
    process.stdout.write(`wayout ${(await import("./version.ts")).VERSION}\n`);
  } else {
    const { holdBackCompilers } = await import("./cli/engine-options.ts");
    await holdBackCompilers(process.argv[2]);
    (await import("./kernel/umask.ts")).takeOwnUmask();
    // The single file starts with a policy for plugin calls (scripts/build.ts); a command may run for long.
    Bun.unsafe.setJITPolicy(1);
    const { runCommandLine } = await import("./cli/main.ts");
    const given = process.argv.slice(2);
    // kubectl runs a program of this name as `kubectl wayout`.
    const isForKubectl = /(^|\/)kubectl-wayout$/.test(process.argv0);
    process.exitCode = await runCommandLine(isForKubectl ? ["kubectl", ...given] : given);
  }
} catch (error) {
  // Both sides tell their own failures: this one came before they were loaded.
  const { answerWithLess } = await import("./low-memory-start.ts");
  process.exitCode = answerWithLess(error, isPlugin);
}
