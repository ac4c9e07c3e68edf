/**
 * Kernel settings, by the names that sysctl(8) has for them, in a network namespace. The caller that changes one learns what
 * it was before, so that it can be put back.
 */
import { codeOf, messageOf, WayoutError } from "../error.ts";
import { access, W_OK } from "./calls.ts";
import { readText, writeText } from "./file.ts";
import { sysctlParts } from "../linux/sysctl-name.ts";
import type { NetworkNamespace } from "./namespace.ts";

const ROOT = "/proc/sys";

/**
 * The file behind a name.
 * @throws WayoutError for what cannot be the name of a setting
 */
export function sysctlPath(name: string): string {
  const parts = sysctlParts(name);
  for (const part of parts) {
    if (part !== "" && part !== "." && part !== ".." && !/[/\0]/.test(part)) continue;
    throw new WayoutError({
      code: "bad-sysctl-name",
      kind: "usage",
      doing: "reading a kernel setting",
      said: `"${name}" is no name of a setting (like net.ipv4.ip_forward)`,
    });
  }
  return `${ROOT}/${parts.join("/")}`;
}

/**
 * The value without its newline; undefined when this kernel or namespace has no such setting.
 * @param namespace the calling thread's when undefined
 * @throws WayoutError when it is there and may not be read
 */
export function readSysctl(namespace: NetworkNamespace | undefined, name: string): string | undefined {
  const path = sysctlPath(name);
  try {
    return inside(namespace, () => readText(path)).trimEnd();
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw refusal(`reading ${name}`, name, error);
  }
}

/**
 * Sets a value and returns the one before. A setting that has the value already is not written, so that this works
 * where /proc/sys is read-only and nothing needs to change.
 * @throws WayoutError: sysctl-missing, sysctl-read-only, no-privilege, sysctl-bad-value
 */
export function writeSysctl(namespace: NetworkNamespace | undefined, name: string, value: string): string {
  const previous = readSysctl(namespace, name);
  const doing = `setting ${name} = ${value}`;
  if (previous === undefined) throw missing(doing, name);
  if (sameValue(previous, value)) return previous;
  const path = sysctlPath(name);
  try {
    // Not created and not truncated: neither means anything in /proc, and O_CREAT hides ENOENT behind EACCES.
    inside(namespace, () => writeText(path, value, "r+"));
  } catch (error) {
    throw isMissing(error) ? missing(doing, name) : refusal(doing, name, error);
  }
  return previous;
}

/**
 * That a value is there or can be set, without setting it.
 * @throws WayoutError as writeSysctl does
 */
export function requireSettable(namespace: NetworkNamespace | undefined, name: string, value: string): void {
  const previous = readSysctl(namespace, name);
  const doing = `setting ${name} = ${value}`;
  if (previous === undefined) throw missing(doing, name);
  if (sameValue(previous, value)) return;
  try {
    inside(namespace, () => access(sysctlPath(name), W_OK));
  } catch (error) {
    throw refusal(doing, name, error);
  }
}

/**
 * Sets what is good to have and not needed: where /proc/sys is read-only, as in most containers, it stays as it is.
 * Returns the value before when it was changed.
 */
export function preferSysctl(
  namespace: NetworkNamespace | undefined,
  name: string,
  value: string,
): string | undefined {
  try {
    return writeSysctl(namespace, name, value);
  } catch (error) {
    if (error instanceof WayoutError && error.code === "sysctl-read-only") return undefined;
    throw error;
  }
}

function inside<T>(namespace: NetworkNamespace | undefined, action: () => T): T {
  return namespace === undefined ? action() : namespace.run(action);
}

/** Settings with several numbers separate them with tabs; people write spaces. */
function sameValue(a: string, b: string): boolean {
  return a.trim().split(/\s+/).join(" ") === b.trim().split(/\s+/).join(" ");
}

function isMissing(error: unknown): boolean {
  return codeOf(error) === "ENOENT" || codeOf(error) === "ENOTDIR";
}

/** What makes a whole family of settings appear. */
const PROVIDERS: readonly (readonly [RegExp, string])[] = [
  [/^net[./]bridge[./]/, "It belongs to the module br_netfilter: modprobe br_netfilter"],
  [/^net[./]netfilter[./]nf_conntrack/, "It belongs to connection tracking: modprobe nf_conntrack"],
  [/^net[./]ipv6[./](?:conf|neigh)[./]/, "Either the interface is not there, or IPv6 is switched off."],
  [/^net[./]ipv6[./]/, "This kernel runs without IPv6 (ipv6.disable=1, or not built in)."],
  [/^net[./]ipv4[./](?:conf|neigh)[./]/, "Is the interface there? ip link shows all of them."],
];

function missing(doing: string, name: string): WayoutError {
  const todo = PROVIDERS.find(([names]) => names.test(name))?.[1];
  return new WayoutError({
    code: "sysctl-missing",
    kind: "machine",
    doing,
    said: "this kernel or namespace has no such setting",
    ...(todo === undefined ? {} : { todo }),
    details: { name },
  });
}

function refusal(doing: string, name: string, cause: unknown): WayoutError {
  const said = messageOf(cause);
  const details = { name };
  switch (codeOf(cause)) {
    case "EROFS":
      return new WayoutError({
        code: "sysctl-read-only",
        kind: "machine",
        doing,
        said: "/proc/sys is mounted read-only",
        todo: "That is so in containers without privilege: set it on the host, or when the container is started.",
        cause,
        details,
      });
    case "EACCES":
    case "EPERM":
      return new WayoutError({
        code: "no-privilege",
        kind: "machine",
        doing,
        said,
        todo: "This needs CAP_NET_ADMIN in the namespace's own user namespace: run it as root.",
        cause,
        details,
      });
    case "EINVAL":
    case "ERANGE":
      return new WayoutError({
        code: "sysctl-bad-value",
        kind: "usage",
        doing,
        said: "the kernel refuses this value",
        cause,
        details,
      });
    default:
      return new WayoutError({ code: "sysctl-failed", kind: "broken", doing, said, cause, details });
  }
}
