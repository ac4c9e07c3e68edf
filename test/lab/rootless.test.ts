/** The lab as an ordinary user has it: no privilege at all, but user namespaces. */
import { afterEach, expect } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { waitpid } from "../../src/kernel/libc.ts";
import { spawnIn } from "../../src/kernel/spawn.ts";
import { namedNamespaces } from "../../src/kernel/named-namespace.ts";
import { CLONE_NEWUSER } from "../../src/kernel/namespace.ts";
import type { StoryReport } from "../../src/lab/story.ts";
import { testWith } from "../support/witness.ts";

const WAYOUT = join(import.meta.dir, "..", "..", "bin", "wayout");
const ORDINARY = 1000;

const directory = mkdtempSync(join(tmpdir(), "wayout-rootless-"));
const environment = { ...process.env, XDG_RUNTIME_DIR: directory };

/** Runs a shell command without privilege: under an ordinary uid of a user namespace that has no other. */
function asOrdinaryUser(command: string): { exitCode: number; stdout: string; stderr: string } {
  const [out, err] = [join(directory, "out"), join(directory, "err")];
  const pid = spawnIn(
    {
      newNamespaces: CLONE_NEWUSER,
      rootFor: { uid: process.getuid!(), gid: process.getgid!(), as: ORDINARY },
      deathSignal: 9,
    },
    ["/bin/sh", "-c", `{ ${command}\n} >${out} 2>${err}`],
    environment,
  );
  const ended = waitpid(pid)!;
  const read = (path: string): string => readFileSync(path, "utf8");
  return { exitCode: ended.exitCode, stdout: read(out), stderr: read(err) };
}

afterEach(() => {
  asOrdinaryUser(`${WAYOUT} lab down`);
  rmSync(join(directory, "wayout"), { recursive: true, force: true });
});

testWith(["root"])("the story, without privilege", () => {
  expect(asOrdinaryUser("id -u").stdout.trim()).toBe(String(ORDINARY));
  const told = asOrdinaryUser(`${WAYOUT} lab --json`);
  const report = JSON.parse(told.stdout) as StoryReport;
  expect(report.chapters.flatMap((chapter) => chapter.steps.filter((step) => !step.ok))).toEqual([]);
  expect(told.exitCode).toBe(0);
  expect(namedNamespaces()).toEqual([]);
});

testWith(["root", "curl"])("up, status, exec with DNS, down, without privilege", () => {
  const played = asOrdinaryUser(
    [
      // The reader must see the end: neither the keeper nor the servers hold the pipe.
      `${WAYOUT} lab up | timeout 20 cat || exit 11`,
      `${WAYOUT} lab status || exit 12`,
      `${WAYOUT} lab exec ns-blue -- curl -sS --max-time 5 http://api.github.com || exit 13`,
      `${WAYOUT} lab up || exit 14`,
      `${WAYOUT} lab exec ns-blue -- sh -c 'exit 7'; test $? = 7 || exit 15`,
      `${WAYOUT} lab down || exit 16`,
      `${WAYOUT} lab status; test $? = 1 || exit 17`,
    ].join("\n"),
  );
  expect(played).toMatchObject({ exitCode: 0, stderr: "" });
  expect(played.stdout).toContain('"address":"203.0.113.5"');
  expect(namedNamespaces()).toEqual([]);
});

testWith(["root", "curl"])("the page over it, on the machine's loopback, without privilege", () => {
  const jar = join(directory, "cookies");
  const raised = join(directory, "raised");
  const played = asOrdinaryUser(
    [
      // The lab outlives its page.
      `trap '${WAYOUT} lab down >&2' EXIT`,
      `${WAYOUT} lab up --page --json --listen 127.0.0.1:0 >${raised} & page=$!`,
      `for attempt in $(seq 300); do test -s ${raised} && break; sleep 0.1; done`,
      `url=$(sed 's/.*"url":"\\([^"]*\\)".*/\\1/' ${raised}); here=\${url%%/#*}; code=\${url##*code=}`,
      `ask() { curl -sS --max-time 20 "$@"; }`,
      `ask $here/ | grep -q wayout || exit 11`,
      `ask $here/v1/picture | grep -q no-token || exit 12`,
      `ask -c ${jar} --data-binary $code $here/session | grep -q true || exit 13`,
      `ask --data-binary $code $here/session | grep -q false || exit 14`,
      `ask -b ${jar} $here/v1/picture`,
      `ask -b ${jar} -X POST "$here/v1/lab/break?fault=forwarding-off" | grep -q forwarding || exit 15`,
      `ask -b ${jar} "$here/v1/doctor" | grep -q '"forwarding-off"' || exit 16`,
      `ask -b ${jar} -X POST $here/v1/lab/mend | grep -q forwarding || exit 17`,
      `${WAYOUT} lab exec wayout-node -- ${WAYOUT} page --json | grep -q "$here/#code=" || exit 18`,
      `kill -TERM $page; wait $page || exit 19`,
      `${WAYOUT} lab status >&2 || exit 20`,
    ].join("\n"),
  );
  expect(played.exitCode).toBe(0);
  expect(
    (JSON.parse(played.stdout) as { pods: { name: string }[] }).pods.map(({ name }) => name).toSorted(),
  ).toEqual(["ns-blue", "ns-green"]);
});

testWith(["root"])("where user namespaces are forbidden it says which setting forbids them", () => {
  const [out, err] = [join(directory, "out"), join(directory, "err")];
  // A limit counts for everything below the user namespace that it is set in: one more level is allowed, not two.
  const setting = "/proc/sys/user/max_user_namespaces";
  const inside = `import { waitpid } from "${join(import.meta.dir, "../../src/kernel/libc.ts")}";
    import { spawnIn } from "${join(import.meta.dir, "../../src/kernel/spawn.ts")}";
    await Bun.write("${setting}", "1");
    const place = { newNamespaces: ${CLONE_NEWUSER}, rootFor: { uid: 0, gid: 0, as: ${ORDINARY} } };
    const pid = spawnIn(place, ["/bin/sh", "-c", "${WAYOUT} lab >${out} 2>${err}"], process.env);
    process.exit(waitpid(pid).exitCode);`;
  const pid = spawnIn(
    { newNamespaces: CLONE_NEWUSER, rootFor: { uid: process.getuid!(), gid: process.getgid!() } },
    [process.execPath, "-e", inside],
    environment,
  );
  expect(waitpid(pid)).toEqual({ exitCode: 3, signal: 0 });
  expect(readFileSync(err, "utf8")).toContain("user.max_user_namespaces");
});

testWith(["root"])("exec without a lab says that there is none", () => {
  const ran = asOrdinaryUser(`${WAYOUT} lab exec ns-blue -- true`);
  expect(ran.exitCode).toBe(1);
  expect(ran.stderr).toContain("the lab is not up");
});
