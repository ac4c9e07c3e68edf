/**
 * Names for a namespace. It shares the node's /etc/resolv.conf, and a resolver on the node's loopback (systemd-resolved,
 * dnsmasq) cannot be reached from there. `ip netns exec` shows /etc/netns/NAME/resolv.conf in its place (ip-netns(8)).
 */
import { command } from "../text/command.ts";
import { isLoopbackAddress } from "../address/special-purpose.ts";
import { existsSync, mkdirSync } from "node:fs";
import { removeReplaced, replaceFile, sweepBeside } from "../kernel/durable-file.ts";
import { removeIfEmpty, MOST_SETTINGS_BYTES, readRegular } from "../kernel/file.ts";
import { parseResolvConf } from "../linux/resolv-conf.ts";
import type { AttachmentRecord } from "./record.ts";

const DIRECTORY = "/etc/netns";
const OWN = "/etc/resolv.conf";
/** Where systemd-resolved says which servers it asks itself (systemd-resolved.service(8)). */
const UPSTREAM = "/run/systemd/resolve/resolv.conf";
const HEAD = "# Written by 'wayout attach'; 'wayout detach' removes it.\n";

export interface ResolverPlan {
  /** The file to write; undefined when none is needed. */
  readonly file?: NonNullable<AttachmentRecord["resolver"]>;
  readonly note?: string;
}

/**
 * @param label only a name has a place under /etc/netns
 * @param asked the name servers a person named; undefined leaves the choice to us
 * @param ours directories that earlier attachments made: the last one to go takes them away
 */
export function planResolver(
  label: string,
  asked: readonly string[] | undefined,
  ours: ReadonlySet<string>,
): ResolverPlan {
  const isName = !label.startsWith("/");
  if (asked === undefined && !isUnreachable(readServers(OWN))) return {};
  const servers = asked ?? readServers(UPSTREAM);
  const told = "this node's resolver listens on its loopback, which a namespace cannot reach";
  if (!isName) {
    return {
      note: `no resolver was set: only a namespace with a name has a place for one (${DIRECTORY}/NAME)`,
    };
  }
  if (isUnreachable(servers)) return { note: `${told}; name one that it can: --dns ADDRESS` };
  const path = `${DIRECTORY}/${label}/resolv.conf`;
  if (existsSync(path)) {
    return asked === undefined ? {} : { note: `${path} exists and is left as it is` };
  }
  const directories = [DIRECTORY, `${DIRECTORY}/${label}`];
  return {
    file: {
      path,
      text: HEAD + servers.map((server) => `nameserver ${server}\n`).join(""),
      madeDirectories: directories.filter((directory) => ours.has(directory) || !existsSync(directory)),
    },
    note: `${command`ip netns exec ${label}` ?? "ip netns exec"} resolves names through ${servers.join(", ")} (${path})`,
  };
}

export function writeResolver(file: NonNullable<AttachmentRecord["resolver"]>): void {
  for (const directory of file.madeDirectories) mkdirSync(directory, { recursive: true, mode: 0o755 });
  replaceFile(file.path, file.text);
}

/** Takes the file away, unless it was changed since: then it is not ours any more. */
export function removeResolver(file: NonNullable<AttachmentRecord["resolver"]>): void {
  let text: string | undefined;
  try {
    text = readRegular(file.path, MOST_SETTINGS_BYTES).text;
  } catch {
    // Gone already.
  }
  if (text === file.text) removeReplaced(file.path);
  else sweepBeside(file.path);
  for (const directory of file.madeDirectories.toReversed()) removeIfEmpty(directory);
}

function readServers(path: string): string[] {
  try {
    return [...parseResolvConf(readRegular(path, MOST_SETTINGS_BYTES).text).nameservers];
  } catch {
    return [];
  }
}

function isUnreachable(servers: readonly string[]): boolean {
  return servers.every(isLoopbackAddress);
}
