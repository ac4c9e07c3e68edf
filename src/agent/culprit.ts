/**
 * Who changed it. The kernel names the process that made a transaction of nf_tables (`nft`, `iptables-restor`) and its
 * number; what a person wants to know is who started it: firewalld, kube-proxy, a shell. Its parents were learnt when it
 * started (kernel/bpf/processes.ts), where that is allowed; else they are read from /proc at once, and often it is gone by
 * then: that is said, and never guessed over.
 *
 * Of links, addresses and routes the kernel tells the number of the socket that asked (nlmsg_pid), which is a process's own
 * number where it has one socket only: a guess. Of settings it tells nobody; who wrote them is known where BPF is allowed.
 */
import type { SettingWrite, StartedProcess } from "../kernel/bpf/processes.ts";
import { readText } from "../kernel/file.ts";
import type { Culprit } from "./journal/journal.ts";
import { present } from "../present.ts";

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

/** What was learnt of processes before they are asked for. */
export interface Witnesses {
  /** As it was when it started its program; undefined when nobody saw that. */
  readonly process: (pid: number) => StartedProcess | undefined;
  /** Writes of settings since the last call. */
  readonly settingWrites: () => readonly SettingWrite[];
}

export const NO_WITNESSES: Witnesses = { process: () => undefined, settingWrites: () => [] };

/** @param told what the kernel said of it */
export function culpritOf(
  told: { readonly pid?: number; readonly process?: string },
  read: ReadProc = readProc,
  witnesses: Pick<Witnesses, "process"> = NO_WITNESSES,
): Culprit {
  const { pid, process } = told;
  if (pid === undefined || process === undefined || process === "") {
    return { process: process ?? "unknown", certainty: process === undefined ? "unknown" : "told" };
  }
  const started = witnesses.process(pid);
  if (started?.name === process) return startedCulprit(started, read);
  const status = statusOf(pid, read);
  // The number may belong to another process by now.
  if (status === undefined || status.name !== process) return { process, pid, certainty: "told" };
  const unit = unitOf(pid, read);
  const parents = parentsOf(status.parent, read);
  return present({ process, pid, parents, certainty: "seen", unit });
}

/**
 * Whose netlink socket asked for a change of links, addresses or routes. Another socket of a process has a number of its
 * own, and a container's processes have numbers of theirs: so this is a guess, and none where nobody has the number.
 */
export function culpritOfSocket(
  port: number,
  read: ReadProc = readProc,
  witnesses: Pick<Witnesses, "process"> = NO_WITNESSES,
): Culprit | undefined {
  if (port === 0) return undefined;
  const name = witnesses.process(port)?.name ?? statusOf(port, read)?.name;
  if (name === undefined) return undefined;
  return { ...culpritOf({ pid: port, process: name }, read, witnesses), certainty: "guessed" };
}

function startedCulprit({ name, pid, parents }: StartedProcess, read: ReadProc): Culprit {
  const known = parents.filter((one) => one.pid > LAST_ANCESTOR);
  const unit = [pid, ...known.map((one) => one.pid)]
    .map((one) => unitOf(one, read))
    .find((found) => found !== undefined);
  return present({
    process: name,
    pid,
    parents: known.map((one) => one.name),
    certainty: "seen",
    unit,
  });
}

/** `by nft ← bash`, or `likely by …` where it was only guessed. */
export function byCulprit(culprit: Culprit): string {
  return `${culprit.certainty === "guessed" ? "likely " : ""}by ${culpritText(culprit)}`;
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
