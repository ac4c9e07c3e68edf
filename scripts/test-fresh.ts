/**
 * The two commands of README on a machine that has nothing but a minimal Debian, Node and npm: no compiler, no
 * development files, an empty HOME; as root and as an ordinary user. The machine is a directory made by debootstrap, in
 * mount namespaces of its own. Takes some minutes, root, and the network for packages.
 */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

const checkout = join(import.meta.dir, "..");
const USER = { name: "newcomer", uid: 1000 } as const;
/** One room stands for the tests: it starts programs, makes namespaces and needs root or a user namespace. */
const ROOM = "test/lab/lab.test.ts";

interface Newcomer {
  readonly name: string;
  readonly uid: number;
  readonly home: string;
}

const NEWCOMERS: readonly Newcomer[] = [
  { name: "root", uid: 0, home: "/root" },
  { name: "an ordinary user", uid: USER.uid, home: `/home/${USER.name}` },
];

if (process.getuid!() !== 0) {
  console.error("✗ test:fresh makes a machine in a directory with debootstrap: run it as root.");
  process.exit(3);
}
const directory = mkdtempSync(join(tmpdir(), "wayout-fresh-"));
let passed = 0;
let failed = 0;
try {
  const machine = join(directory, "machine");
  makeMachine(machine);
  for (const newcomer of NEWCOMERS) {
    giveCheckout(machine, newcomer);
    check(machine, newcomer, "npm ci && npm run lab", readsWell);
    check(machine, newcomer, `npm test -- ${ROOM}`, testsRan);
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);

/** A minimal root file system of this machine's own release, with its Node and npm. */
function makeMachine(machine: string): void {
  const { release, mirror } = ownRelease();
  console.log(`making a minimal ${release}`);
  must(["debootstrap", "--variant=minbase", release, machine, mirror]);
  const [node, npm] = [realpathSync(which("node")), dirname(dirname(realpathSync(which("npm"))))];
  cpSync(node, join(machine, "usr/bin/node"));
  cpSync(npm, join(machine, "usr/lib/node_modules/npm"), { recursive: true });
  for (const name of ["npm", "npx"]) {
    symlinkSync(`../lib/node_modules/npm/bin/${name}-cli.js`, join(machine, "usr/bin", name));
  }
  for (const path of ["/etc/resolv.conf", "/etc/hosts", ...certificates()]) {
    mkdirSync(join(machine, dirname(path)), { recursive: true });
    cpSync(realpathSync(path), join(machine, path));
  }
  must(["chroot", machine, "useradd", "--create-home", "--uid", String(USER.uid), USER.name]);
}

/** The release that this machine runs, and where its apt gets it from. */
function ownRelease(): { readonly release: string; readonly mirror: string } {
  const [, release = ""] = /^VERSION_CODENAME=(\S+)$/m.exec(readFileSync("/etc/os-release", "utf8")) ?? [];
  const format = "$(RELEASE) $(COMPONENT) $(REPO_URI)";
  const targets = must(["apt-get", "indextargets", "--format", format, "Created-By: Packages"]);
  const mirror = targets
    .split("\n")
    .map((line) => line.split(" "))
    .find(([name, component]) => name === release && component === "main")?.[2];
  if (mirror === undefined) throw new Error(`apt of this machine knows no source of ${release} main`);
  return { release, mirror };
}

/** Certificates that this machine's npm trusts besides its own. */
function certificates(): string[] {
  const paths = [npmSetting("cafile"), process.env["NODE_EXTRA_CA_CERTS"]];
  return [...new Set(paths.filter((path): path is string => path !== undefined && path.startsWith("/")))];
}

function npmSetting(name: string): string | undefined {
  const value = must(["npm", "config", "get", name]).trim();
  return value === "null" || value === "undefined" || value === "" ? undefined : value;
}

/** What is under version control, as it is now, where the newcomer would clone it. */
function giveCheckout(machine: string, { home, uid }: Newcomer): void {
  const place = join(machine, home, "wayout");
  mkdirSync(place, { recursive: true });
  must([
    "sh",
    "-ec",
    `git -C "${checkout}" ls-files -z | tar -C "${checkout}" --null -T - -c | tar -x -C "${place}"`,
  ]);
  must(["chown", "-R", `${uid}:${uid}`, place]);
}

/** Runs a command as a newcomer would type it, and judges what was said. */
function check(
  machine: string,
  newcomer: Newcomer,
  command: string,
  judge: (said: string) => string | undefined,
): void {
  const { exitCode, said } = onMachine(machine, newcomer, command);
  const wrong = exitCode === 0 ? judge(said) : `it ended with ${exitCode}`;
  console.log(`${wrong === undefined ? "✓" : "✗"} ${newcomer.name}: ${command}`);
  if (wrong === undefined) passed++;
  else {
    failed++;
    console.log(`${wrong}:\n${said.trim().split("\n").slice(-40).join("\n")}`);
  }
}

function readsWell(said: string): string | undefined {
  if (/\bwarn\b/i.test(said)) return "npm warns of something";
  return said.includes("every step did what it should") ? undefined : "the story was not told to its end";
}

function testsRan(said: string): string | undefined {
  return /^[1-9]\d* passed, 0 failed$/m.test(said) ? undefined : "no test passed, or some failed";
}

/** The machine as its own root: chroot would not do, for there the kernel makes no private mounts. */
function onMachine(
  machine: string,
  { uid, home }: Newcomer,
  command: string,
): { readonly exitCode: number; readonly said: string } {
  const script = `
    mount --bind "$MACHINE" "$MACHINE"; cd "$MACHINE"
    mount -t proc proc proc; mount --rbind /sys sys; mount --rbind /dev dev
    mount -t tmpfs -o mode=755 tmpfs run; mount -t tmpfs -o mode=1777 tmpfs tmp; mkdir run/lock
    pivot_root . mnt; cd /; umount -l /mnt
    exec setpriv --reuid ${uid} --regid ${uid} --clear-groups env -i $SETTINGS \\
      PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=${home} TERM=dumb \\
      sh -c 'cd ~/wayout && { ${command}; } 2>&1'`;
  const settings = [`NPM_CONFIG_REGISTRY=${npmSetting("registry") ?? ""}`];
  const [cafile, more] = [npmSetting("cafile"), process.env["NODE_EXTRA_CA_CERTS"]];
  if (cafile !== undefined) settings.push(`NPM_CONFIG_CAFILE=${cafile}`);
  if (more !== undefined) settings.push(`NODE_EXTRA_CA_CERTS=${more}`);
  for (const name of ["http_proxy", "https_proxy", "no_proxy"]) {
    const value = process.env[name] ?? process.env[name.toUpperCase()];
    if (value !== undefined) settings.push(`${name}=${value}`);
  }
  const child = Bun.spawnSync(["unshare", "--mount", "--propagation", "private", "sh", "-ec", script], {
    env: { ...process.env, MACHINE: machine, SETTINGS: settings.join(" ") },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
  });
  return { exitCode: child.exitCode, said: child.stdout.toString() };
}

/** Runs a program of this machine that must succeed. Returns what it said. */
function must(command: readonly [string, ...string[]]): string {
  const child = Bun.spawnSync([which(command[0]), ...command.slice(1)], { stdout: "pipe", stderr: "pipe" });
  if (child.exitCode === 0) return child.stdout.toString();
  const said = `${child.stdout.toString()}${child.stderr.toString()}`
    .trim()
    .split("\n")
    .slice(-10)
    .join("\n");
  throw new Error(`${command[0]} ended with ${child.exitCode}: ${said}`);
}

function which(program: string): string {
  const path = Bun.which(program);
  if (path === null) throw new Error(`this machine has no ${program}`);
  return path;
}
