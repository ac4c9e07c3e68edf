/** Whose browser is opened, with what, and where none is. The opener on PATH is ours, and writes down what it was given. */
import { afterAll, expect } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { openInBrowser } from "../../src/cli/browser.ts";
import { testWith } from "../support/witness.ts";

const URL_GIVEN = "http://127.0.0.1:7070/#code=secret";
const SOMEBODY = { name: "nobody", uid: 65_534, gid: 65_534 };
/** Where somebody else may read and write, as in the usual /tmp. */
const folder = mkdtempSync("/tmp/wayout-opener-");
chmodSync(folder, 0o777);
const usual = process.env["TMPDIR"];
process.env["TMPDIR"] = folder;
const said = join(folder, "said");

/** Says who it is, what it was called with, and what stands in the file. */
function opener(name: string): void {
  const path = join(folder, name);
  writeFileSync(
    path,
    `#!/bin/sh\n{ id -u; echo "$HOME"; echo "$*"; cat "$1"; } > ${said}.new\nmv ${said}.new ${said}\n`,
  );
  chmodSync(path, 0o755);
}

afterAll(() => {
  process.env["TMPDIR"] = usual;
  rmSync(folder, { recursive: true, force: true });
});

async function open(environment: Record<string, string>): Promise<string[] | undefined> {
  rmSync(said, { force: true });
  if (!openInBrowser(URL_GIVEN, environment)) return undefined;
  while (!existsSync(said)) await Bun.sleep(20);
  const [uid, home, path, ...text] = readFileSync(said, "utf8").split("\n");
  return [uid!, home!, path!, text.join("\n")];
}

const SCREEN = { DISPLAY: ":0", PATH: `${folder}:${process.env["PATH"]}`, HOME: "/root" };
const SUDO = { SUDO_USER: SOMEBODY.name, SUDO_UID: String(SOMEBODY.uid), SUDO_GID: String(SOMEBODY.gid) };

testWith(["real-root"])(
  "under sudo it is the browser of who called sudo, in that person's home",
  async () => {
    opener("xdg-open");
    const [uid, home, path, text] = (await open({ ...SCREEN, ...SUDO }))!;
    expect(uid).toBe(String(SOMEBODY.uid));
    expect(home).not.toBe("/root");
    // Arguments can be read by everybody: the secret is in a file of that person's own.
    expect(path).not.toContain("secret");
    expect(text).toContain(`url=${URL_GIVEN}"`);
    const { uid: owner, mode } = statSync(path!);
    expect([owner, mode & 0o777]).toEqual([SOMEBODY.uid, 0o600]);
  },
);

testWith(["real-root"])("root's own browser is never opened, nor any without a screen", async () => {
  opener("xdg-open");
  expect(await open(SCREEN)).toBeUndefined();
  expect(await open({ ...SCREEN, SUDO_USER: "root", SUDO_UID: "0", SUDO_GID: "0" })).toBeUndefined();
  expect(await open({ ...SCREEN, ...SUDO, DISPLAY: "" })).toBeUndefined();
  expect(existsSync(said)).toBe(false);
});

testWith(["real-root"])(
  "without xdg-open the program of $BROWSER does it, and without either nobody",
  async () => {
    rmSync(join(folder, "xdg-open"), { force: true });
    opener("my-browser");
    const bare = join(folder, "bare");
    mkdirSync(bare);
    for (const program of ["sh", "id", "cat", "mv", "rm", "sleep", "runuser"])
      symlinkSync(Bun.which(program)!, join(bare, program));
    const plain = { ...SCREEN, ...SUDO, PATH: `${folder}:${bare}` };
    expect((await open({ ...plain, BROWSER: "my-browser" }))![3]).toContain(URL_GIVEN);
    expect(await open({ ...plain, BROWSER: "no-such-thing:%s --new" })).toBeUndefined();
  },
);
