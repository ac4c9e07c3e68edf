/** What all commands have in common: what the runtime says is read, the command is carried out, and what went wrong is told. */
import { WayoutError } from "../error.ts";
import { takeOwnUmask } from "../kernel/umask.ts";
import { readCall, type CniCommand } from "./call.ts";
import { readHeader, type NetworkHeader } from "./configuration.ts";
import { CniContext, type Environment } from "./context.ts";
import { print, readInput, tellFailure, versionOf } from "./standard-streams.ts";
import { atLeast, type CniVersion } from "./version.ts";

/** Answers one call; resolves to the process's exit code. */
export type Answer = (environment: Environment) => Promise<number>;

/** @param carryOut the command; it prints what it has to say itself, since it may have to undo what nobody hears of */
export function answering(carryOut: (context: CniContext) => Promise<void>): Answer {
  return async (environment) => {
    let version: string | undefined;
    try {
      takeOwnUmask();
      const call = readCall(environment);
      const text = readInput();
      version = versionOf(text);
      const header = readHeader(text);
      requireVersion(call.command, header);
      using context = new CniContext(call, header, environment);
      if (header.fields.raw("type") === "loopback") await answerAsLoopback(context);
      else await carryOut(context);
      return 0;
    } catch (error) {
      return tellFailure(error, version);
    }
  };
}

async function answerAsLoopback(context: CniContext): Promise<void> {
  const { loopbackAnswer } = await import("./loopback.ts");
  const answer = loopbackAnswer(context);
  if (answer !== undefined) print(answer);
}

/** The version of the specification in which a command came. */
const SINCE: Readonly<Partial<Record<CniCommand, CniVersion>>> = {
  CHECK: "0.4.0",
  GC: "1.1.0",
  STATUS: "1.1.0",
};

function requireVersion(command: CniCommand, { version }: NetworkHeader): void {
  const least = SINCE[command];
  if (least === undefined || atLeast(version, least)) return;
  throw new WayoutError({
    code: "cni-version",
    kind: "usage",
    doing: `carrying out ${command}`,
    said: `it came with CNI ${least}, and the configuration is of version ${version}`,
  });
}
