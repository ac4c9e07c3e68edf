/** The secret by which programs prove that they may ask: in a file that only its owner reads, never in an address. */
import {
  closeSync,
  fstatSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { constants } from "node:fs";
import { dirname } from "node:path";
import { codeOf, messageOf, WayoutError } from "../error.ts";
import { BESIDE } from "../naming/names.ts";
import { present } from "../present.ts";

export const TOKEN_PATH = "/var/lib/wayout/token";
const TOKEN_BYTES = 32;
/** Of the file, white space included. */
const MOST_BYTES = 4096;

/**
 * Reads the token, or makes one where there is no file.
 * @throws WayoutError `bad-token-file`
 */
export function readToken(path: string): string {
  try {
    return make(path) ?? read(path);
  } catch (error) {
    if (error instanceof WayoutError) throw error;
    throw bad(path, messageOf(error), error);
  }
}

/** undefined when there is one already. */
function make(path: string): string | undefined {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  if (lstatSync(path, { throwIfNoEntry: false }) !== undefined) return undefined;
  const token = Buffer.from(crypto.getRandomValues(new Uint8Array(TOKEN_BYTES))).toString("hex");
  // Whole or not at all, whatever ends us or fills the disk: half a token would be refused at every start.
  const beside = `${path}${BESIDE}${process.pid}`;
  rmSync(beside, { force: true });
  try {
    writeFileSync(beside, `${token}\n`, { flag: "wx", mode: 0o600, flush: true });
    linkSync(beside, path);
    return token;
  } catch (error) {
    if (codeOf(error) === "EEXIST") return undefined;
    throw error;
  } finally {
    rmSync(beside, { force: true });
  }
}

function read(path: string): string {
  // A FIFO that nobody writes to would be waited for.
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const about = fstatSync(fd);
    const { mode, uid, size } = about;
    if (!about.isFile()) throw bad(path, "it is no regular file");
    if (size > MOST_BYTES) throw bad(path, `it has ${size} bytes; a token has at most 512`);
    if ((mode & 0o077) !== 0 || uid !== process.geteuid!()) {
      throw bad(
        path,
        `others may read it (mode ${(mode & 0o777).toString(8)}, owner ${uid})`,
        undefined,
        `chown ${process.geteuid!()} ${path} && chmod 600 ${path}`,
      );
    }
    const token = readFileSync(fd, "utf8").trim();
    if (!/^\S{16,512}$/.test(token)) throw bad(path, "it holds no token of at least 16 characters");
    // No other can be sent in a header as it is: nobody could ever show it.
    if (!/^[!-~]+$/.test(token))
      throw bad(path, "its token has characters beyond letters, digits and signs of ASCII");
    return token;
  } finally {
    closeSync(fd);
  }
}

/** @param or what mends it as well */
function bad(path: string, said: string, cause?: unknown, or?: string): WayoutError {
  return new WayoutError(
    present({
      code: "bad-token-file",
      kind: "machine",
      doing: `reading the agent's token ${path}`,
      said,
      todo: isThere(path)
        ? `Take it away, and the agent makes a new one${or === undefined ? "." : `; or: ${or}`}`
        : "Name a file in a directory that can be written, and has room: --token-file FILE.",
      cause,
    }),
  );
}

function isThere(path: string): boolean {
  try {
    return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch {
    return false;
  }
}
