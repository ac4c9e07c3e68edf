/** What a runtime hands in on standard input, and what it is told on standard output. */
import { visible, withUnseenAsUnits } from "../text/visible.ts";
import { messageOf, rethrowMistake, WayoutError } from "../error.ts";
import { ERRNO, SystemError } from "../linux/errno.ts";
import { isCloseOnExec } from "../kernel/calls.ts";
import { readDescriptor, writeBytes, writeDescriptor } from "../kernel/file.ts";
import { encodeUtf8 } from "../platform/bytes.ts";
import { cniFailure } from "./failure.ts";
import { isSpoken } from "./version.ts";

const STDOUT = 1;
const DEL = 0x7f;

/** @throws WayoutError `cni-input` */
export function readInput(): string {
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

/** The version an input names, if it is one we speak: the one to answer in, whatever else is wrong with it. */
export function versionOf(text: string): string | undefined {
  try {
    const value = JSON.parse(text) as { readonly cniVersion?: unknown } | null;
    const version = value?.cniVersion;
    return typeof version === "string" && isSpoken(version) ? version : undefined;
  } catch (error) {
    rethrowMistake(error);
    return undefined;
  }
}

/**
 * Written at once and to the descriptor itself: setting up process.stdout costs more than the whole VERSION call.
 * @throws WayoutError `cni-output`
 */
export function print(value: object): void {
  try {
    write(value);
  } catch (error) {
    throw new WayoutError({
      code: "cni-output",
      kind: "machine",
      doing: "writing the result to standard output",
      said: messageOf(error),
      cause: error,
    });
  }
}

/**
 * Returns the process's exit code. Where standard output takes nothing (full, closed), that itself is what failed: then
 * on standard error, if there is one.
 */
export function tellFailure(error: unknown, version: string | undefined): number {
  const failure = cniFailure(error, version);
  try {
    write(failure);
  } catch (error) {
    rethrowMistake(error);
    tellPerson(visible(failure.msg));
  }
  return 1;
}

/** A line on standard error; where that takes nothing either there is nobody left to tell. */
export function tellPerson(line: string): void {
  try {
    writeDescriptor(2, `${line}\n`);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
  }
}

/** What runtimes, pods and the kernel named may hold anything: what cannot be seen of it stands as \uXXXX. */
function write(value: object): void {
  // Closed by our parent; the runtime has opened /dev/null in its place, which would take anything.
  if (isCloseOnExec(STDOUT)) throw new SystemError("write", ERRNO.EBADF);
  const text = `${JSON.stringify(value, null, 2)}\n`;
  const bytes = encodeUtf8(text);
  // As many bytes as characters: all are ASCII, of which JSON.stringify leaves nothing but DEL.
  const isPlain = bytes.length === text.length && !bytes.includes(DEL);
  writeBytes(STDOUT, isPlain ? bytes : encodeUtf8(withUnseenAsUnits(text)));
}
