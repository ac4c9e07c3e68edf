/**
 * Forwarding that survives a reboot: a file of our own under /etc/sysctl.d, and whether another file that is applied
 * later says the opposite.
 */
import { mkdirSync, readdirSync } from "node:fs";
import { parseSysctlText, type SysctlAssignment } from "../linux/sysctl-file.ts";
import { MOST_SETTINGS_BYTES, readRegular } from "../kernel/file.ts";
import { SYSCTL_SETTINGS, settingsFiles } from "../linux/settings-files.ts";
import { dirname, join } from "node:path";
import { messageOf, WayoutError } from "../error.ts";
import { replaceFile } from "../kernel/durable-file.ts";
import { sysctlPath } from "../kernel/sysctl.ts";
import { present } from "../present.ts";

/** Ours. */
export const SYSCTL_FILE = "/etc/sysctl.d/90-wayout.conf";
/** One line of a sysctl.d file. */
export interface SysctlLine extends SysctlAssignment {
  readonly file: string;
}

export interface SysctlFiles {
  /** Every assignment, in the order in which they are applied at boot. */
  readonly lines: readonly SysctlLine[];
  /** Files that exist and could not be read, with the reason. */
  readonly unreadable: readonly { readonly file: string; readonly reason: string }[];
}

/** Reads all of them. @param root prefix for every path, for images and tests */
export function readSysctlFiles(root = ""): SysctlFiles {
  const unreadable: { file: string; reason: string }[] = [];
  const lines: SysctlLine[] = [];
  for (const file of settingsFiles(SYSCTL_SETTINGS, (directory) => namesIn(join(root, directory)))) {
    try {
      lines.push(...parseSysctlFile(file, readRegular(join(root, file), MOST_SETTINGS_BYTES).text));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT")
        unreadable.push({ file, reason: messageOf(error) });
    }
  }
  return { lines, unreadable };
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

/** Every assignment of a file. */
export function parseSysctlFile(file: string, text: string): SysctlLine[] {
  return parseSysctlText(text).map((assignment) => ({ file, ...assignment }));
}

/** Whether a line of a file sets this setting: by its name, or by a pattern with `*`. */
function sets(line: SysctlLine, name: string): boolean {
  if (line.name === name) return true;
  if (!line.name.includes("*")) return false;
  const pattern = line.name.split("*").map((part) => part.replace(/[.+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${pattern.join(".*")}$`).test(name);
}

/** The other name of the same switch: net.ipv4.conf.all.forwarding and net.ipv4.ip_forward are one. */
const ALIASES: Readonly<Record<string, readonly string[]>> = {
  "net.ipv4.ip_forward": ["net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding"],
};

/** What the next boot will make of a setting. */
export interface BootValue {
  readonly name: string;
  /** undefined: no file says anything, and the kernel's default stands. */
  readonly value: string | undefined;
  /** The line that decides. */
  readonly decidedBy: SysctlLine | undefined;
}

/** The last line that sets it decides; an exact name wins over a pattern (sysctl.d(5)). */
export function bootValue(files: SysctlFiles, name: string): BootValue {
  const names = ALIASES[name] ?? [name];
  const exact = files.lines.findLast((line) => names.includes(line.name));
  const decidedBy = exact ?? files.lines.findLast((line) => names.some((one) => sets(line, one)));
  return { name, value: decidedBy?.value, decidedBy };
}

/** What persistForwarding did, and whether it will hold. */
export interface Persisted {
  readonly file: string;
  readonly written: boolean;
  /** Lines that are applied after ours and say something else. */
  readonly undoneBy: readonly SysctlLine[];
  readonly unreadable: SysctlFiles["unreadable"];
}

/**
 * Writes these settings into our file, beside what it holds already; the new content is on disk before the old one is
 * given up. Nothing is written when nothing changes.
 * @throws WayoutError `sysctl-file` with the path and what the system said
 */
export function persistSettings(
  settings: readonly { readonly name: string; readonly value: string }[],
  root = "",
): Persisted {
  const path = join(root, SYSCTL_FILE);
  const before = readOwn(path);
  const merged = new Map(parseSysctlFile(SYSCTL_FILE, before ?? "").map(({ name, value }) => [name, value]));
  for (const { name, value } of settings) merged.set(name, value);
  const text = [
    "# Written by `wayout forwarding enable --persist`: this node routes packets for its namespaces and pods.",
    ...[...merged].map(([name, value]) => `${spelled(name)} = ${value}`),
    "",
  ].join("\n");
  if (text !== before) replaceOwn(path, text);
  const files = readSysctlFiles(root);
  const undoneBy = settings.flatMap(({ name, value }) => {
    const boot = bootValue(files, name);
    return boot.decidedBy === undefined || boot.value === value ? [] : [boot.decidedBy];
  });
  return { file: path, written: text !== before, undoneBy, unreadable: files.unreadable };
}

/** With slashes where an interface's name holds a dot: eth0.100 would be read as two parts otherwise (sysctl.d(5)). */
function spelled(name: string): string {
  const path = sysctlPath(name).slice("/proc/sys/".length);
  return path.includes(".") ? path : name;
}

function readOwn(path: string): string | undefined {
  try {
    return readRegular(path, MOST_SETTINGS_BYTES).text;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw fileError(`reading ${path}`, error);
  }
}

function replaceOwn(path: string, text: string): void {
  try {
    mkdirSync(dirname(path), { recursive: true });
    replaceFile(path, text);
  } catch (error) {
    throw fileError(`writing ${path}`, error);
  }
}

function todoAbout(code: string | undefined, denied: boolean): string | undefined {
  if (denied) return "Run it as root, on a system whose /etc can be written.";
  return code === "ENOSPC" ? "The disk is full; nothing was changed. Make room and try again." : undefined;
}

function fileError(doing: string, error: unknown): WayoutError {
  const { code } = error as NodeJS.ErrnoException;
  const denied = code === "EACCES" || code === "EPERM" || code === "EROFS";
  return new WayoutError({
    code: "sysctl-file",
    kind: denied ? "machine" : "broken",
    doing,
    said: messageOf(error),
    ...present({ todo: todoAbout(code, denied) }),
    cause: error,
  });
}
