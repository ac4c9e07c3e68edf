/** Opening an address in the browser of the person who sits here. */
import { spawn } from "node:child_process";
import { chownSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { present } from "../present.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** The browser reads the file at once; after so long its code lets nobody in any more. Seconds. */
const FILE_S = 60;
/** Opens it, and takes the file away when it is of no more use. */
const OPEN = `"$1" "$2"; sleep ${FILE_S}; rm -rf -- "$3"`;

/**
 * The address holds a secret, and every user of the machine may read the arguments of every program: so the browser is
 * given a file of its user's own that leads there. Under sudo it is the browser of who called sudo, never root's.
 * @returns false where there is no screen, nothing that opens a browser, or nobody but root to show it to
 */
export function openInBrowser(url: string, environment: Environment = process.env): boolean {
  const opener = openerOf(environment);
  const viewer = viewerOf(environment);
  if (opener === undefined || viewer === undefined) return false;
  const directory = mkdtempSync(join(tmpdir(), "wayout-page-"));
  const path = join(directory, "open.html");
  writeFileSync(path, `<!doctype html><meta http-equiv="refresh" content="0;url=${url}">\n`, { mode: 0o600 });
  if (viewer.ids !== undefined) for (const one of [path, directory]) chownSync(one, ...viewer.ids);
  const [command, ...words] = [...viewer.as, "sh", "-c", OPEN, "sh", opener, path, directory];
  // A group of its own: Ctrl-C is not for the browser.
  spawn(command, words, { stdio: "ignore", detached: true, env: viewer.environment }).unref();
  return true;
}

/** xdg-open looks at $BROWSER itself; where there is none, $BROWSER is all there is. */
function openerOf({ DISPLAY, WAYLAND_DISPLAY, BROWSER, PATH }: Environment): string | undefined {
  if ((DISPLAY ?? WAYLAND_DISPLAY ?? "") === "") return undefined;
  const names = ["xdg-open", ...(BROWSER ?? "").split(":").filter((name) => /^[^\s%-][^\s%]*$/.test(name))];
  return (
    names.map((name) => Bun.which(name, { PATH: PATH ?? "" })).find((found) => found !== null) ?? undefined
  );
}

interface Viewer {
  /** What a command begins with to run as this person. */
  readonly as: readonly string[];
  readonly ids?: readonly [uid: number, gid: number];
  readonly environment: Environment;
}

function viewerOf(environment: Environment): Viewer | undefined {
  if (process.getuid?.() !== 0) return { as: [], environment };
  const { SUDO_USER, SUDO_UID, SUDO_GID, PATH } = environment;
  const [uid, gid] = [Number(SUDO_UID ?? 0), Number(SUDO_GID ?? 0)];
  const runuser = Bun.which("runuser", { PATH: PATH ?? "" });
  if (SUDO_USER === undefined || !(uid > 0) || !(gid > 0) || runuser === null) return undefined;
  const home = Bun.spawnSync(["getent", "passwd", String(uid)], { stderr: "ignore" })
    .stdout.toString()
    .split(":")[5];
  return {
    as: [runuser, "-u", SUDO_USER, "--"],
    ids: [uid, gid],
    // sudo's own home is root's.
    environment: { ...environment, ...present({ HOME: home }) },
  };
}
