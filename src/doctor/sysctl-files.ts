/** What the settings files of a node say about a sysctl. */
import { parseSysctlText } from "../linux/sysctl-file.ts";
import type { ConfigFile } from "../snapshot/snapshot.ts";

export interface FileSetting {
  readonly path: string;
  readonly name: string;
  readonly value: string;
}

/** Every assignment of these names, in the order in which the later one wins. */
export function fileSettings(files: readonly ConfigFile[], names: readonly string[]): FileSetting[] {
  return files.flatMap(({ path, text }) =>
    parseSysctlText(text ?? "")
      .filter(({ name }) => names.includes(name))
      .map(({ name, value }) => ({ path, name, value })),
  );
}

/** The names that all mean "forward": writing one sets the others. */
export function forwardingFiles(files: readonly ConfigFile[], family: 4 | 6): FileSetting[] {
  const names =
    family === 4 ? ["net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding"] : ["net.ipv6.conf.all.forwarding"];
  return fileSettings(files, names);
}
