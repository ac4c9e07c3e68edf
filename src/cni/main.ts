/**
 * Room `cni/`: wayout as a CNI plugin: one call, environment and standard input in, a result or an error on standard
 * output. It loads only the code of its command: a process that lives for a few milliseconds spends most of them on
 * that.
 *
 * In: CNI_COMMAND and its variables, a network configuration.
 * Out: a CNI result, or an error with a CNI code.
 * Touches: the pod's namespace, the network's bridge, VLANs, NAT rules, addresses and sender checks, each under the
 *   network's lock.
 */
import { jsonText, visible } from "../text/visible.ts";
import { messageOf, WayoutError } from "../error.ts";
import { isCharacterDevice, readDescriptor, statDescriptor, writeDescriptor } from "../kernel/file.ts";
import { VERSION } from "../version.ts";
import { readCall, type CniCommand } from "./call.ts";
import type { NetworkHeader } from "./configuration.ts";
import type { CniContext, Environment } from "./context.ts";
import { cniFailure, type CniFailure } from "./failure.ts";
import { atLeast, CNI_VERSIONS, isSpoken, NEWEST, type CniVersion } from "./version.ts";

/**
 * Answers one CNI call. Returns the process's exit code. Each command's code is loaded only when it is the one asked
 * for: a process that lives for a few milliseconds spends most of them on that.
 */
export async function runPlugin(environment: Environment = process.env): Promise<number> {
  if (environment["CNI_COMMAND"] === "") {
    process.stderr.write(`CNI plugin wayout ${VERSION}, speaks CNI ${CNI_VERSIONS.join(", ")}\n`);
    return 0;
  }
  let version: string | undefined;
  try {
    const call = readCall(environment);
    if (call.command === "VERSION") {
      print(versionAnswer());
      return 0;
    }
    const text = readInput();
    version = versionOf(text);
    const { CniContext, readHeader } = await import("./context.ts");
    const header = readHeader(text);
    requireVersion(call.command, header);
    using context = new CniContext(call, header, environment);
    if (header.fields.raw("type") === "loopback") {
      const { loopbackAnswer } = await import("./loopback.ts");
      const answer = loopbackAnswer(context);
      if (answer !== undefined) print(answer);
      return 0;
    }
    const answer = await run(context, call.command);
    if (answer !== undefined) print(answer);
    return 0;
  } catch (error) {
    tellFailure(cniFailure(error, version));
    return 1;
  }
}

async function run(
  context: CniContext,
  command: Exclude<CniCommand, "VERSION">,
): Promise<object | undefined> {
  switch (command) {
    case "ADD": {
      const [{ add }, { resultJson }] = [await import("./add.ts"), await import("./result.ts")];
      return resultJson(await add(context), context.header.version);
    }
    case "DEL":
      await (await import("./del.ts")).del(context);
      return undefined;
    case "CHECK":
      await (await import("./check.ts")).check(context);
      return undefined;
    case "GC": {
      const { gc, readValidAttachments } = await import("./gc.ts");
      await gc(context, readValidAttachments(context.header.fields));
      return undefined;
    }
    case "STATUS":
      await (await import("./status.ts")).status(context);
      return undefined;
  }
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

function versionAnswer(): object {
  // A person at a terminal gives no input, and should not have to end it.
  const version = isCharacterDevice(statDescriptor(0)) ? undefined : versionOf(readInput());
  return { cniVersion: version ?? NEWEST, supportedVersions: CNI_VERSIONS };
}

/** The version an input names, if it is one we speak: the one to answer in, whatever else is wrong with it. */
function versionOf(text: string): string | undefined {
  try {
    const value = JSON.parse(text) as { readonly cniVersion?: unknown } | null;
    const version = value?.cniVersion;
    return typeof version === "string" && isSpoken(version) ? version : undefined;
  } catch {
    return undefined;
  }
}

/** @throws WayoutError `cni-input` */
function readInput(): string {
  try {
    return readDescriptor(0);
  } catch (error) {
    throw new WayoutError({
      code: "cni-input",
      kind: "broken",
      doing: "reading the network configuration from standard input",
      said: messageOf(error),
      cause: error,
    });
  }
}

/** Where standard output takes nothing (full, closed), that itself is what failed: then on standard error. */
function tellFailure(failure: CniFailure): void {
  try {
    // What failed may be named by others.
    write(jsonText(failure, 2));
  } catch {
    process.stderr.write(`${visible(failure.msg)}\n`);
  }
}

/** Written at once and to the descriptor itself: setting up process.stdout costs more than the whole VERSION call. */
function print(value: object): void {
  write(JSON.stringify(value, null, 2));
}

function write(text: string): void {
  writeDescriptor(1, `${text}\n`);
}
