/** Puts the plugin and a network where container runtimes look for them, so that no runtime ever sees half of it. */
import { existsSync, mkdirSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { cidrText, parseCidr, type Cidr } from "../address/cidr.ts";
import { messageOf, rethrowMistake, WayoutError } from "../error.ts";
import { requireFree, freeSubnet, occupiedPrefixes } from "../attachment/subnet.ts";
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { isExecutable, MOST_RUNTIME_BYTES, readRegular } from "../kernel/file.ts";
import { requireNodesDirectory } from "../kernel/shared-run.ts";
import { ownSingleFile } from "../self.ts";
import { isIdentifier } from "./call.ts";
import { conflistOf, hasPortmap, type NetworkRequest } from "./conflist.ts";
import { readNetworks, type ConfiguredNetwork } from "./configured-networks.ts";
import {
  CONFLIST_NAME,
  isOurLoopback,
  loopbackPath,
  programPath,
  putConflist,
  putProgram,
  shadowedBy,
} from "./placement.ts";
import { present } from "../present.ts";

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
  /** What stands in the place of that plugin, and cannot be executed: no pod starts. */
  readonly unusableLoopback?: string;
  /** Whether there is a plugin that publishes pods' ports. */
  readonly portmap: boolean;
  /** Other networks whose files sort before ours, so that runtimes would take them. */
  readonly shadowedBy: readonly string[];
}

/** The program first: a runtime that reads the conflist finds it there. @throws WayoutError `directory-not-shared` and others */
export function install(request: InstallRequest): Installed {
  const doing = "installing the CNI plugin";
  if (!isIdentifier(request.network)) {
    throw usage(doing, `"${request.network}" is no network name: letters, digits and _ . -`);
  }
  const source = singleFile(doing);
  requireNodes(request, doing);
  const conflist = join(request.configurationDirectory, CONFLIST_NAME);
  const kept = isKept(conflist, doing);
  const subnets = kept ? keptSubnets(request, conflist, doing) : chooseSubnets(request, doing);
  const loopback = loopbackPath(request.binDirectory);
  let largeBecause: string | undefined;
  attempt(doing, () => {
    mkdirSync(request.configurationDirectory, { recursive: true, mode: 0o755 });
    largeBecause = putProgram(source, request.binDirectory);
    if (!kept)
      putConflist(request.configurationDirectory, conflistOf(request, subnets, request.binDirectory));
  });
  return {
    program: programPath(request.binDirectory),
    ...(largeBecause === undefined ? { size: "small" } : { size: "large", largeBecause }),
    conflist,
    wroteConflist: !kept,
    subnets: subnets.map(cidrText),
    ...present({
      loopback: isOurLoopback(loopback) ? loopback : undefined,
      unusableLoopback: isExecutable(loopback) ? undefined : loopback,
    }),
    portmap: hasPortmap(request.binDirectory),
    shadowedBy: shadowedBy(request.configurationDirectory),
  };
}

export interface Uninstalled {
  /** What was there and is gone. */
  readonly removed: readonly string[];
}

/**
 * The conflist first, so that no runtime looks for a program that is gone. A conflist that names no plugin of ours is
 * another program's and stays.
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
    ({ file }) => basename(file) === CONFLIST_NAME,
  );
  const loopback = loopbackPath(request.binDirectory);
  const paths = [
    ...ours.map(({ file }) => file),
    ...(isOurLoopback(loopback) ? [loopback] : []),
    programPath(request.binDirectory),
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

/**
 * Whether there is a conflist that is kept: ours, a person's or another program's. An empty one is none: a disk was full,
 * or a machine went down.
 * @throws WayoutError `conflist-damaged`: no runtime would find a network, and what a person wrote is not ours to delete
 */
function isKept(conflist: string, doing: string): boolean {
  if (!existsSync(conflist)) return false;
  try {
    const { text } = readRegular(conflist, MOST_RUNTIME_BYTES);
    if (text.trim() === "") return false;
    JSON.parse(text);
    return true;
  } catch (error) {
    rethrowMistake(error);
    throw new WayoutError({
      code: "conflist-damaged",
      kind: "machine",
      doing,
      said: `${conflist} is there, and no runtime can read it: ${messageOf(error)}`,
      todo: "Correct it, or move it away: a new one is then written.",
      cause: error,
    });
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
  for (const subnet of chosen) requireFree(subnet, occupied, doing);
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

function singleFile(doing: string): string {
  const file = ownSingleFile();
  if (file !== undefined) return file;
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
