/**
 * Settings in several files: one main file, and `*.conf` files of several directories, of which the earlier hides files of
 * the same name in the later (sysctl.d(5), networkd.conf(5)). Pure.
 */

export interface SettingsPlace {
  /** Directories of `*.conf` files, which are read in the order of their names. */
  readonly directories: readonly string[];
  /** The main file, of the first directory that has it. */
  readonly main: { readonly name: string; readonly directories: readonly string[] };
  /** Whether the main file is read before the others or after them; of two assignments the later wins. */
  readonly mainIs: "first" | "last";
}

/** sysctl.d(5), sysctl(8). */
export const SYSCTL_SETTINGS: SettingsPlace = {
  directories: [
    "/etc/sysctl.d",
    "/run/sysctl.d",
    "/usr/local/lib/sysctl.d",
    "/usr/lib/sysctl.d",
    "/lib/sysctl.d",
  ],
  main: { name: "sysctl.conf", directories: ["/etc"] },
  mainIs: "last",
};

const SYSTEMD_DIRECTORIES = ["/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd"];

/** networkd.conf(5). */
export const NETWORKD_SETTINGS: SettingsPlace = {
  directories: SYSTEMD_DIRECTORIES.map((directory) => `${directory}/networkd.conf.d`),
  main: { name: "networkd.conf", directories: SYSTEMD_DIRECTORIES },
  mainIs: "first",
};

/**
 * Paths of what is read, in the order in which the later wins.
 * @param names the names in a directory, none when there is no such directory
 */
export function settingsFiles(
  place: SettingsPlace,
  names: (directory: string) => readonly string[],
): string[] {
  const byName = new Map<string, string>();
  for (const directory of place.directories) {
    for (const name of names(directory)) {
      if (name.endsWith(".conf") && !byName.has(name)) byName.set(name, `${directory}/${name}`);
    }
  }
  const parts = [...byName].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, path]) => path);
  const { name, directories } = place.main;
  const home = directories.find((directory) => names(directory).includes(name));
  const main = home === undefined ? [] : [`${home}/${name}`];
  return place.mainIs === "first" ? [...main, ...parts] : [...parts, ...main];
}
