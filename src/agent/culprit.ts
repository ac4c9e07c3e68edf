/**
 * Who changed it. The kernel names the process that made a transaction of nf_tables (`nft`, `iptables-restor`) and its
 * number; what a person wants to know is who started it: firewalld, kube-proxy, a shell. Its parents are read from /proc
 * at once, and often it is gone by then: that is said, and never guessed over.
 */
import { readText } from "../kernel/file.ts";
import type { Culprit } from "./journal/journal.ts";

/** Ancestors beyond this are the system's own. */
const MOST_PARENTS = 6;
/** PIDs of init and of the kernel's own threads' parent: everybody's ancestors, and so nobody's. */
const LAST_ANCESTOR = 2;

/** Reads a file under /proc; undefined when the process is gone. */
export type ReadProc = (path: string) => string | undefined;

function readProc(path: string): string | undefined {
  try {
    return readText(path);
  } catch {
    return undefined;
  }
}

/** @param told what the kernel said of it */
export function culpritOf(
  told: { readonly pid?: number; readonly process?: string },
  read: ReadProc = readProc,
): Culprit {
  const { pid, process } = told;
  if (pid === undefined || process === undefined || process === "") {
    return { process: process ?? "unknown", certainty: process === undefined ? "unknown" : "told" };
  }
  const status = statusOf(pid, read);
  // The number may belong to somebody else by now.
  if (status === undefined || status.name !== process) return { process, pid, certainty: "told" };
  const unit = unitOf(pid, read);
  const parents = parentsOf(status.parent, read);
  return { process, pid, parents, certainty: "seen", ...(unit === undefined ? {} : { unit }) };
}

/** `nft ← bash ← sshd`: the process, then who started it. A name that follows itself stands once. */
export function culpritText({ process, parents, unit, certainty }: Culprit): string {
  if (certainty === "unknown") return "unknown";
  const names = [process, ...(parents ?? [])];
  const by = names.filter((name, index) => name !== names[index - 1]).join(" ← ");
  return unit === undefined ? by : `${by} (${unit})`;
}

function parentsOf(first: number, read: ReadProc): string[] {
  const names: string[] = [];
  for (let pid = first; pid > LAST_ANCESTOR && names.length < MOST_PARENTS;) {
    const status = statusOf(pid, read);
    if (status === undefined) break;
    names.push(status.name);
    pid = status.parent;
  }
  return names;
}

function statusOf(
  pid: number,
  read: ReadProc,
): { readonly name: string; readonly parent: number } | undefined {
  const text = read(`/proc/${pid}/status`);
  const name = /^Name:\t(.*)$/m.exec(text ?? "")?.[1];
  const parent = /^PPid:\t(\d+)$/m.exec(text ?? "")?.[1];
  return name === undefined || parent === undefined ? undefined : { name, parent: Number(parent) };
}

/** The systemd unit, or the container's id, as the last part of the cgroup's path that names one. */
function unitOf(pid: number, read: ReadProc): string | undefined {
  const paths = (read(`/proc/${pid}/cgroup`) ?? "")
    .split("\n")
    .map((line) => line.split(":").slice(2).join(":"));
  const parts = paths.flatMap((path) => path.split("/")).toReversed();
  const container = parts
    .map((part) => /(?:^|-)([0-9a-f]{64})(?:\.scope)?$/.exec(part)?.[1])
    .find((id) => id !== undefined);
  if (container !== undefined) return `container ${container.slice(0, 12)}`;
  return parts.find((part) => /\.(?:service|scope)$/.test(part) && part !== "init.scope");
}
