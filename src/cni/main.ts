/** One CNI call. */
import type { Answer } from "./answer.ts";
import type { Environment } from "./context.ts";

/**
 * Answers it; resolves to the process's exit code. Each command is a part by itself (scripts/build.ts), which holds what
 * that command needs and nothing else: a process that lives for a few milliseconds spends most of them on loading code.
 */
export async function runPlugin(environment: Environment = process.env): Promise<number> {
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
