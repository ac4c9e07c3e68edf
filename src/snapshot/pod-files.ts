/** Files that decide about a pod's way out: its resolv.conf, who listens for DNS in it, the node's sysctl.d. */
import { codeOf } from "../error.ts";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ipText } from "../address/ip.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import type { Pod } from "../pods/pod.ts";
import { MOST_SETTINGS_BYTES, readRegularIfThere, type PartOfFile } from "../kernel/file.ts";
import { parseResolvConf, type ResolvConf } from "../linux/resolv-conf.ts";
import { namedFile, readPodFile } from "../pods/pod-file.ts";
import type { Gaps } from "./namespace.ts";
import type { ConfigFile } from "./snapshot.ts";

/** Where sysctl --system looks, in the order of sysctl.d(5); a file hides one of the same name further down. */
const SYSCTL_DIRECTORIES = [
  "/etc/sysctl.d",
  "/run/sysctl.d",
  "/usr/local/lib/sysctl.d",
  "/usr/lib/sysctl.d",
  "/lib/sysctl.d",
];

function absent(error: unknown): boolean {
  const code = codeOf(error);
  return code === "ENOENT" || code === "ENOTDIR" || code === "ESRCH";
}

/**
 * What /etc/resolv.conf says as processes of the pod see it: `ip netns exec` binds /etc/netns/NAME over /etc. undefined
 * when there is none.
 * @throws Error when it could not be read, or not as a whole
 */
export function readResolvConf(pod: Pod): ResolvConf | undefined {
  const own = pod.pid === undefined ? undefined : readPodFile(pod.pid, "/etc/resolv.conf");
  const path = namedFile(pod, "resolv.conf");
  const file = own ?? (path === undefined ? undefined : readRegularIfThere(path, MOST_SETTINGS_BYTES));
  return file === undefined ? undefined : parseResolvConf(wholeText(file));
}

/** What was not read is not judged. */
function wholeText({ text, whole }: PartOfFile): string {
  if (!whole) throw new Error(`it has more than ${MOST_SETTINGS_BYTES} bytes, and was read in part`);
  return text;
}

/** Local addresses of the UDP sockets on port 53 in a namespace. */
export function readDnsListeners(namespace: NetworkNamespace): string[] {
  return namespace.run(() =>
    ["udp", "udp6"].flatMap((file) => {
      try {
        return parseListeners(readFileSync(`/proc/thread-self/net/${file}`, "utf8"));
      } catch (error) {
        if (absent(error)) return [];
        throw error;
      }
    }),
  );
}

/** Lines of /proc/net/udp: the local address is hexadecimal, each 32-bit word in host order, then the port. */
export function parseListeners(text: string): string[] {
  const found: string[] = [];
  for (const line of text.split("\n").slice(1)) {
    const local = line.trim().split(/\s+/)[1];
    const [address, port] = local?.split(":") ?? [];
    if (address === undefined || port !== "0035") continue;
    const bytes = Buffer.from(address, "hex");
    bytes.swap32();
    found.push(ipText(bytes));
  }
  return found;
}

/** The settings files of the node, in the order in which the later wins. */
export function readConfigFiles(
  gaps: Gaps,
  directories: readonly string[] = SYSCTL_DIRECTORIES,
): ConfigFile[] {
  const paths = new Map<string, string>();
  for (const directory of directories.toReversed()) {
    const names = gaps.try("node", directory, () => listed(directory)) ?? [];
    for (const name of names) if (name.endsWith(".conf")) paths.set(name, join(directory, name));
  }
  const ordered = [...paths].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, path]) => path);
  return [...ordered, "/etc/sysctl.conf"].flatMap((path) => {
    try {
      const file = readRegularIfThere(path, MOST_SETTINGS_BYTES);
      return file === undefined ? [] : [{ path, text: wholeText(file) }];
    } catch (error) {
      if (absent(error)) return [];
      gaps.note("node", path, error);
      return [{ path }];
    }
  });
}

function listed(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (absent(error)) return [];
    throw error;
  }
}
