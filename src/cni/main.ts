/**
 * Room `cni/`: wayout as a CNI plugin: one call, environment and standard input in, a result or an error on standard
 * output. Each command is a part by itself (scripts/build.ts), which holds what it needs and nothing else: a process that
 * lives for a few milliseconds spends most of them on loading code.
 *
 * In: CNI_COMMAND and its variables, a network configuration.
 * Out: a CNI result, or an error with a CNI code.
 * Touches: the pod's namespace, the network's bridge, VLANs, NAT rules, addresses and sender checks, each under the
 *   network's lock; host-local's files below /var/lib/cni/networks; /run/wayout/cni, /run/wayout/nat.
 */
import type { Answer } from "./answer.ts";
import type { Environment } from "./context.ts";

/**
 * Answers a call; resolves to the process's exit code. The environment is handed in: the platform belongs to the parts,
 * each of which has its own copy of it in the single file, and loading one more here would cost half a million instructions.
 */
export async function runPlugin(environment: Environment): Promise<number> {
  const { answer } = await partFor(environment["CNI_COMMAND"]);
  return await answer(environment);
}

function partFor(command: string | undefined): Promise<{ readonly answer: Answer }> {
  switch (command) {
    case "ADD":
      return import("./add.ts");
    case "DEL":
      return import("./del.ts");
    case "CHECK":
      return import("./check.ts");
    case "GC":
      return import("./gc.ts");
    case "STATUS":
      return import("./status.ts");
    default:
      return import("./version-answer.ts");
  }
}
