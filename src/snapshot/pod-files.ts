/** Files that decide about a pod's way out: its resolv.conf, who listens for DNS in it, the node's sysctl.d. */
import { isAbsence } from "../error.ts";
import { ipText } from "../address/ip.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import type { Pod } from "../pods/pod.ts";
import { MOST_SETTINGS_BYTES, readRegularIfThere, type PartOfFile } from "../kernel/file.ts";
import {
  NETWORKD_SETTINGS,
  SYSCTL_SETTINGS,
  settingsFiles,
  type SettingsPlace,
} from "../linux/settings-files.ts";
import { LINK_MANAGER_MARKS } from "../naming/link-managers.ts";
import { parseResolvConf, type ResolvConf } from "../linux/resolv-conf.ts";
import { namedFile, readPodFile } from "../pods/pod-file.ts";
import { readPodTable } from "../pods/pod-socket.ts";
import type { Gaps } from "./namespace.ts";
import type { ConfigFile } from "./snapshot.ts";

/** The node's settings that decide about its forwarding, routes and rules. */
const NODE_SETTINGS = [SYSCTL_SETTINGS, NETWORKD_SETTINGS];

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

/** Local addresses of the UDP sockets on port 53 in a namespace. @throws SystemError EFBIG when it has too many to be read */
export function readDnsListeners(namespace: NetworkNamespace): string[] {
  return namespace.run(() => ["udp", "udp6"].flatMap((file) => parseListeners(readPodTable(file))));
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

/** The settings files of the node, of each program in the order in which the later wins, and who says that it runs. */
export function readConfigFiles(
  gaps: Gaps,
  places: readonly SettingsPlace[] = NODE_SETTINGS,
  marks: readonly string[] = LINK_MANAGER_MARKS,
): ConfigFile[] {
  const names = (directory: string): string[] => gaps.names(directory);
  return [...places.flatMap((place) => settingsFiles(place, names)), ...marks].flatMap((path) => {
    try {
      const file = readRegularIfThere(path, MOST_SETTINGS_BYTES);
      return file === undefined ? [] : [{ path, text: wholeText(file) }];
    } catch (error) {
      if (isAbsence(error)) return [];
      gaps.note("node", path, error);
      return [{ path }];
    }
  });
}
