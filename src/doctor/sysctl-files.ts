/** What the settings files of a node say about a sysctl. */
import type { ConfigFile } from "../snapshot/snapshot.ts";

export interface FileSetting {
  readonly path: string;
  readonly name: string;
  readonly value: string;
}

/** Every assignment of these names, in the order in which the later one wins. */
export function fileSettings(files: readonly ConfigFile[], names: readonly string[]): FileSetting[] {
  const found: FileSetting[] = [];
  for (const { path, text } of files) {
    for (const line of text?.split("\n") ?? []) {
      // sysctl.d(5): a leading "-" means that errors are ignored; both separators are allowed.
      const parts = /^\s*-?\s*([\w./*-]+)\s*=\s*(.*?)\s*$/.exec(line);
      if (parts === null) continue;
      const name = parts[1]!.includes("/") ? parts[1]!.replaceAll("/", ".") : parts[1]!;
      if (names.includes(name)) found.push({ path, name, value: parts[2]! });
    }
  }
  return found;
}

/** The names that all mean "forward": writing one sets the others. */
export function forwardingFiles(files: readonly ConfigFile[], family: 4 | 6): FileSetting[] {
  const names =
    family === 4 ? ["net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding"] : ["net.ipv6.conf.all.forwarding"];
  return fileSettings(files, names);
}
