/** Opening an address in the browser of whoever sits here. */
import { chownSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/**
 * The address holds a secret, and every user of the machine may read the arguments of every program: so the browser is
 * given a file of its user's own that leads there. Under sudo it is the browser of who called sudo.
 * @returns false where there is no screen, or nobody but root to show it to
 */
export function openInBrowser(url: string): boolean {
  const { DISPLAY, WAYLAND_DISPLAY, SUDO_USER, SUDO_UID, SUDO_GID } = process.env;
  const asRoot = process.getuid?.() === 0;
  const opener = Bun.which("xdg-open");
  const runuser = Bun.which("runuser");
  if ((DISPLAY ?? WAYLAND_DISPLAY) === undefined || opener === null) return false;
  if (asRoot && (SUDO_USER === undefined || runuser === null)) return false;
  const directory = mkdtempSync(join(tmpdir(), "wayout-page-"));
  const path = join(directory, "open.html");
  writeFileSync(path, `<!doctype html><meta http-equiv="refresh" content="0;url=${url}">\n`, { mode: 0o600 });
  if (asRoot) for (const one of [path, directory]) chownSync(one, Number(SUDO_UID), Number(SUDO_GID));
  const command = asRoot ? [runuser!, "-u", SUDO_USER!, "--", opener, path] : [opener, path];
  Bun.spawn(command, { stdin: "ignore", stdout: "ignore", stderr: "ignore" }).unref();
  return true;
}
