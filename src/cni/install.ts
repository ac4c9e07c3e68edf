/** Puts the plugin and a network where container runtimes look for them, so that no runtime ever sees half of it. */
import {
  chmodSync,
  closeSync,
  copyFileSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { cidrText, parseCidr, type Cidr } from "../address/cidr.ts";
import { messageOf, WayoutError } from "../error.ts";
import { collision, freeSubnet, occupiedPrefixes } from "../attachment/subnet.ts";
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { requireNodesDirectory } from "../kernel/shared-run.ts";
import { selfCommand } from "../self.ts";
import { isIdentifier } from "./call.ts";
import { conflistOf, hasPortmap, type NetworkRequest } from "./conflist.ts";
import { readNetworks, type ConfiguredNetwork } from "./configured-networks.ts";
import { smallProgram } from "./small-program.ts";

/** Where containerd, CRI-O and kubeadm look. */
export const DEFAULT_BIN_DIRECTORY = "/opt/cni/bin";
export const DEFAULT_CONFIGURATION_DIRECTORY = "/etc/cni/net.d";
/** Runtimes take the file whose name sorts first. */
const FILE_NAME = "10-wayout.conflist";
const PROGRAM = "wayout";

/** Without a plugin of this name no runtime starts a sandbox; ours answers to it, too. */
const LOOPBACK = "loopback";

export interface InstallRequest extends NetworkRequest {
  readonly binDirectory: string;
  readonly configurationDirectory: string;
  /** At most one of each family; absent: a free IPv4 subnet is looked for. */
  readonly subnets?: readonly string[];
}

/** Which program serves as the plugin; both are one by what they do. */
export type PluginSize = "small" | "large";

export interface Installed {
  readonly program: string;
  readonly size: PluginSize;
  /** Why it is the large one, whose calls cost three times as much; absent for the small one. */
  readonly largeBecause?: string;
  readonly conflist: string;
  /** False: there was a conflist of ours, and it was left as it is. */
  readonly wroteConflist: boolean;
  readonly subnets: readonly string[];
  /** The link by which our program is the plugin `loopback` as well; absent where there is another one. */
  readonly loopback?: string;
  /** Whether there is a plugin that publishes pods' ports. */
  readonly portmap: boolean;
  /** Other networks whose files sort before ours, so that runtimes would take them. */
  readonly shadowedBy: readonly string[];
}

/** The program first: whoever reads the conflist finds it there. @throws WayoutError `directory-not-shared` and others */
export function install(request: InstallRequest): Installed {
  const doing = "installing the CNI plugin";
  if (!isIdentifier(request.network)) {
    throw usage(doing, `"${request.network}" is no network name: letters, digits and _ . -`);
  }
  const source = singleFile(doing);
  requireNodes(request, doing);
  const conflist = join(request.configurationDirectory, FILE_NAME);
  const kept = existsSync(conflist);
  const subnets = kept ? keptSubnets(request, conflist, doing) : chooseSubnets(request, doing);
  const program = join(request.binDirectory, PROGRAM);
  const loopback = join(request.binDirectory, LOOPBACK);
  let largeBecause: string | undefined;
  attempt(doing, () => {
    mkdirSync(request.binDirectory, { recursive: true, mode: 0o755 });
    mkdirSync(request.configurationDirectory, { recursive: true, mode: 0o755 });
    replace(program, (beside) => (largeBecause = putProgram(beside, source)), 0o755);
    if (!existsSync(loopback)) {
      // A link that leads nowhere is in the way.
      rmSync(loopback, { force: true });
      symlinkSync(PROGRAM, loopback);
    }
    if (!kept) {
      const text = `${JSON.stringify(conflistOf(request, subnets, request.binDirectory), null, 2)}\n`;
      replace(conflist, (beside) => writeFileSync(beside, text), 0o644);
    }
  });
  const before = (name: string): boolean => name < FILE_NAME && /\.(conf|conflist|json)$/.test(name);
  return {
    program,
    ...(largeBecause === undefined ? { size: "small" } : { size: "large", largeBecause }),
    conflist,
    wroteConflist: !kept,
    subnets: subnets.map(cidrText),
    ...(isOurLoopback(loopback) ? { loopback } : {}),
    portmap: hasPortmap(request.binDirectory),
    shadowedBy: readdirSync(request.configurationDirectory).filter(before).sort(),
  };
}

/**
 * The small program where it runs on this machine: its whole file is looked at, and it answers a call. Otherwise the
 * large one. Returns why it is the large one.
 */
function putProgram(path: string, large: string): string | undefined {
  const small = smallProgram();
  const refusal = small === undefined ? "it was built without the small one" : putSmall(path, small);
  if (refusal !== undefined) copyFileSync(large, path);
  return refusal;
}

/** Longer than any machine needs for a call that does nothing. */
const TRIAL_MS = 10_000;

function putSmall(path: string, small: string): string | undefined {
  // It lies inside our own file, where only reading works.
  writeFileSync(path, readFileSync(small), { mode: 0o755 });
  chmodSync(path, 0o755);
  const options = { stdin: Buffer.from("{}"), stdout: "pipe", stderr: "pipe", timeout: TRIAL_MS } as const;
  try {
    const verified = Bun.spawnSync([path, "--verify"], options);
    if (verified.exitCode !== 0) return `the small one does not stand its examination: ${saidBy(verified)}`;
    const answered = Bun.spawnSync([path], { ...options, env: { CNI_COMMAND: "VERSION" } });
    if (answered.exitCode !== 0) return `the small one does not run here: ${saidBy(answered)}`;
    return undefined;
  } catch (error) {
    return `the small one cannot be started here: ${messageOf(error)}`;
  }
}

function saidBy({ stdout, stderr, exitCode, signalCode }: Bun.SyncSubprocess<"pipe", "pipe">): string {
  const said = `${stderr.toString()} ${stdout.toString()}`.replace(/\s+/g, " ").trim();
  return said === "" ? `it ended with ${exitCode ?? signalCode}` : said;
}

export interface Uninstalled {
  /** What was there and is gone. */
  readonly removed: readonly string[];
}

/**
 * The conflist first, so that no runtime looks for a program that is gone. A conflist that names no plugin of ours is
 * somebody else's and stays.
 * @throws WayoutError `pods-attached` unless `force`
 */
export function uninstall(request: Directories, attached: readonly string[], force: boolean): Uninstalled {
  const doing = "removing the CNI plugin";
  if (attached.length > 0 && !force) {
    throw new WayoutError({
      code: "pods-attached",
      kind: "broken",
      doing,
      said: `${attached.length} ${attached.length === 1 ? "pod is" : "pods are"} attached through it`,
      todo: "Without the plugin their DEL fails. Remove the pods first, or give --force.",
      details: { attached },
    });
  }
  requireNodes(request, doing);
  const ours = readNetworks(request.configurationDirectory).filter(
    ({ file }) => basename(file) === FILE_NAME,
  );
  const loopback = join(request.binDirectory, LOOPBACK);
  const paths = [
    ...ours.map(({ file }) => file),
    ...(isOurLoopback(loopback) ? [loopback] : []),
    join(request.binDirectory, PROGRAM),
  ];
  const there = [...new Set(paths)].filter((path) => existsSync(path));
  attempt(doing, () => {
    for (const path of there) rmSync(path);
  });
  return { removed: there };
}

type Directories = Pick<InstallRequest, "binDirectory" | "configurationDirectory">;

function requireNodes({ binDirectory, configurationDirectory }: Directories, doing: string): void {
  for (const directory of [binDirectory, configurationDirectory]) requireNodesDirectory(directory, doing);
}

function isOurLoopback(path: string): boolean {
  try {
    return readlinkSync(path) === PROGRAM;
  } catch {
    return false;
  }
}

function chooseSubnets({ subnets, network }: InstallRequest, doing: string): Cidr[] {
  using node = Rtnetlink.open();
  const occupied = occupiedPrefixes(node);
  if (subnets === undefined || subnets.length === 0) return [parseCidr(freeSubnet(4, occupied, network))];
  const chosen = subnets.map((text) => parseCidr(text));
  if (new Set(chosen.map(({ family }) => family)).size < chosen.length) {
    throw usage(doing, `${subnets.join(" and ")} are of one family; take one of IPv4 and one of IPv6`);
  }
  for (const subnet of chosen) {
    const hit = collision(subnet, occupied);
    if (hit === undefined) continue;
    throw new WayoutError({
      code: "subnet-overlaps-route",
      kind: "usage",
      doing,
      said: `the subnet ${cidrText(subnet)} overlaps ${hit.by}`,
      todo: "Name a subnet that overlaps no route of this node, or none: a free one is then chosen.",
    });
  }
  return chosen;
}

/** A conflist that is there is left alone; asking for something else than it says is a mistake to hear of. */
function keptSubnets(
  { subnets, configurationDirectory }: InstallRequest,
  conflist: string,
  doing: string,
): Cidr[] {
  const known = readNetworks(configurationDirectory)
    .filter(({ file }) => file === conflist)
    .flatMap(subnetsOf);
  const other = (subnets ?? []).filter((text) => !known.includes(cidrText(parseCidr(text))));
  if (other.length > 0) {
    throw usage(
      doing,
      `${conflist} is there and has ${known.join(" and ") || "other subnets"}, not ${other.join(" and ")}; it is kept`,
    );
  }
  return known.map((text) => parseCidr(text));
}

function subnetsOf({ plugin }: ConfiguredNetwork): string[] {
  const found = JSON.stringify(plugin["ipam"] ?? {}).matchAll(/"subnet":"([^"]+)"/g);
  return [...found].map(([, text]) => cidrText(parseCidr(text!, "keep")));
}

const BESIDE = ".new-";

/** Beside and renamed: a runtime may be executing, or reading, the old one. On disk before it has its name. */
function replace(path: string, write: (beside: string) => void, mode: number): void {
  removeUnfinished(path);
  const beside = `${path}${BESIDE}${process.pid}`;
  try {
    write(beside);
    const fd = openSync(beside, "r+");
    try {
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    chmodSync(beside, mode);
    renameSync(beside, path);
  } catch (error) {
    rmSync(beside, { force: true });
    throw error;
  }
}

/** What an install that was killed half-way has left beside the file. */
function removeUnfinished(path: string): void {
  const beginning = `${basename(path)}${BESIDE}`;
  for (const name of readdirSync(dirname(path)).filter((name) => name.startsWith(beginning))) {
    const isAtWork = existsSync(`/proc/${name.slice(beginning.length)}`);
    if (!isAtWork) rmSync(join(dirname(path), name), { force: true });
  }
}

function singleFile(doing: string): string {
  const self = selfCommand();
  if (self.length === 1) return self[0];
  throw usage(
    doing,
    "a plugin is a single file, and this is a checkout: `npm run build`, then `dist/wayout cni install`",
  );
}

function attempt(doing: string, what: () => void): void {
  try {
    what();
  } catch (error) {
    if (error instanceof WayoutError) throw error;
    const code = (error as NodeJS.ErrnoException).code ?? "";
    throw new WayoutError({
      code: "install-failed",
      kind: "machine",
      doing,
      said: messageOf(error),
      todo:
        code === "EACCES" || code === "EPERM"
          ? "Run it as root, or choose directories you may write."
          : "No file was left incomplete; repair the cause and run it again.",
      cause: error,
    });
  }
}

function usage(doing: string, said: string): WayoutError {
  return new WayoutError({ code: "usage", kind: "usage", doing, said });
}
