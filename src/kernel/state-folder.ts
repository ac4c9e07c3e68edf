/**
 * Where an ordinary user's wayout keeps what it has to remember. Without a folder of the session's own
 * (XDG_RUNTIME_DIR) that is one below /tmp, where any user may have been first: so it is made for its owner alone, then
 * looked at through the descriptor that everything in it is reached by, and not used when another user could write it.
 */
import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
} from "node:fs";
import { codeOf, messageOf, WayoutError } from "../error.ts";
import { removeIfEmpty, writeDescriptor } from "./file.ts";

const { O_DIRECTORY, O_NOFOLLOW, O_RDONLY, O_WRONLY, O_CREAT, O_EXCL, O_NONBLOCK } = constants;
const PERMISSIONS = 0o777;
const WRITABLE_BY_OTHERS = 0o022;
const OURS_ALONE = 0o700;
const DOING = "opening the folder of this user's state";

function pathFor(uid: number): string {
  const runtime = process.env["XDG_RUNTIME_DIR"] ?? "";
  // A relative one would be another folder in every directory (the XDG base directory specification has it ignored).
  return runtime.startsWith("/") && isFolderOf(uid, runtime)
    ? `${runtime}/wayout`
    : `/tmp/wayout-${uidOutside(uid)}`;
}

/** Below /tmp all users meet: who is root in a user namespace has the name that he has outside. */
function uidOutside(uid: number): number {
  const [, outside] =
    new RegExp(`^ *${uid} +(\\d+) `, "m").exec(readFileSync("/proc/self/uid_map", "utf8")) ?? [];
  return Number(outside ?? uid);
}

/** After su or sudo the environment may still name the folder of another user. */
function isFolderOf(uid: number, path: string): boolean {
  try {
    const status = statSync(path);
    return status.isDirectory() && status.uid === uid;
  } catch {
    return false;
  }
}

export class StateFolder implements Disposable {
  readonly #fd: number;

  private constructor(
    fd: number,
    readonly path: string,
  ) {
    this.#fd = fd;
  }

  /** @returns undefined when there is none. @throws WayoutError unsafe-state-folder */
  static find(): StateFolder | undefined {
    const uid = process.geteuid!();
    const path = pathFor(uid);
    let fd: number;
    try {
      fd = openSync(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    } catch (error) {
      if (codeOf(error) === "ENOENT") return undefined;
      throw unsafe(path, codeOf(error) === "ENOTDIR" ? "it is a link or a file" : messageOf(error));
    }
    try {
      checkFolder(fd, uid, path);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    return new StateFolder(fd, path);
  }

  /** Makes it when it is missing. @throws WayoutError unsafe-state-folder */
  static make(): StateFolder {
    const path = pathFor(process.geteuid!());
    try {
      mkdirSync(path, { mode: OURS_ALONE });
    } catch (error) {
      if (codeOf(error) !== "EEXIST") throw unsafe(path, messageOf(error));
    }
    const found = StateFolder.find();
    if (found === undefined) throw unsafe(path, "it was removed as soon as it was made");
    return found;
  }

  /** The path of a file in it: by the descriptor, so that it is this folder whatever happens to its name. */
  at(name: string): string {
    return `/proc/self/fd/${this.#fd}/${name}`;
  }

  /** @returns undefined when there is no such file */
  read(name: string): string | undefined {
    let fd: number;
    try {
      fd = openSync(this.at(name), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    } catch {
      return undefined;
    }
    try {
      return fstatSync(fd).isFile() ? readFileSync(fd, "utf8") : undefined;
    } finally {
      closeSync(fd);
    }
  }

  /** Makes a file anew; what was there is removed, never written to. */
  write(name: string, text: string): void {
    this.remove(name);
    const fd = openSync(this.at(name), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    try {
      writeDescriptor(fd, text);
    } finally {
      closeSync(fd);
    }
  }

  remove(name: string): void {
    rmSync(this.at(name), { force: true });
  }

  /** Takes the folder away when nothing is in it. */
  removeIfEmpty(): void {
    removeIfEmpty(this.path);
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}

function checkFolder(fd: number, uid: number, path: string): void {
  const { uid: owner, mode } = fstatSync(fd);
  if (owner !== uid) throw unsafe(path, `it belongs to uid ${owner}, and this process is uid ${uid}`);
  if ((mode & WRITABLE_BY_OTHERS) !== 0) {
    throw unsafe(path, `others may write in it (mode ${(mode & PERMISSIONS).toString(8)})`);
  }
  // A strict umask leaves too little, an older folder may be readable by all.
  if ((mode & PERMISSIONS) !== OURS_ALONE) fchmodSync(fd, OURS_ALONE);
}

function unsafe(path: string, said: string): WayoutError {
  return new WayoutError({
    code: "unsafe-state-folder",
    kind: "machine",
    doing: `${DOING}, ${path}`,
    said,
    todo: "Have it removed, or set XDG_RUNTIME_DIR to a folder that only this user may write in.",
  });
}
