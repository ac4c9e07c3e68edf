/**
 * Room `pods/`: the pods of this node: every network namespace but the node's own, each once, with all its names.
 *
 * In: a name, id or address as people write it.
 * Out: pods with their names, namespaces and attachments; the other end of a veth; files of a pod.
 * Touches: it reads /run/netns, /proc and the runtimes' files. A pod's own files are opened inside the pod's root, and
 *   given up after a second.
 */
import { readdirSync } from "node:fs";
import { namedNamespaces } from "../kernel/named-namespace.ts";
import { namespaceInode, NETNS_DIRECTORY } from "../kernel/namespace.ts";
import { cachedAttachments, type CachedAttachment } from "./cni-cache.ts";
import { containers, type Container } from "./containers.ts";
import { namespaceOf, podAddresses } from "./pod-addresses.ts";
import type { Pod, PodAttachment, PodSource } from "./pod.ts";
import { present } from "../present.ts";

/**
 * Every pod, by name. Namespaces are told apart by their inode: a name under /run/netns, a container and a process
 * that share one are one pod.
 */
export function listPods(): Pod[] {
  const drafts = new Map<number, Draft>();
  const own = new Set([namespaceInode("/proc/thread-self/ns/net"), namespaceInode("/proc/1/ns/net")]);
  const draftAt = (path: string): Draft | undefined => {
    const inode = namespaceInode(path);
    if (inode === undefined || own.has(inode)) return undefined;
    let draft = drafts.get(inode);
    if (draft === undefined) drafts.set(inode, (draft = new Draft(inode, path)));
    return draft;
  };
  for (const name of namedNamespaces()) draftAt(`${NETNS_DIRECTORY}/${name}`)?.addName(name);
  for (const attachment of cachedAttachments())
    if (namespaceOf(attachment) !== undefined) draftAt(attachment.netns)?.addAttachment(attachment);
  for (const container of containers()) {
    const path = container.pid === undefined ? container.netns : `/proc/${container.pid}/ns/net`;
    if (path !== undefined) draftAt(path)?.addContainer(container);
  }
  for (const pid of processes()) draftAt(`/proc/${pid}/ns/net`)?.addProcess(pid);
  return [...drafts.values()].map((draft) => draft.done()).sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Process ids, ascending: the oldest process of a namespace comes first, as a rule. */
function processes(): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .sort((a, b) => a - b);
}

/** A pod while its sources are gathered. */
class Draft {
  readonly #names: string[] = [];
  readonly #containers: Container[] = [];
  readonly #containerIds = new Set<string>();
  readonly #attachments: PodAttachment[] = [];
  #source: PodSource | undefined;
  #pid: number | undefined;
  #kubernetes: Pod["kubernetes"];

  constructor(
    readonly inode: number,
    readonly path: string,
  ) {}

  addName(name: string): void {
    this.#source ??= "netns";
    this.#names.push(name);
  }

  addAttachment({ kubernetes, ...attachment }: CachedAttachment): void {
    // A runtime's file name under /run/netns ("cni-1b0c…") names nobody; the pod does.
    if (kubernetes !== undefined) this.#source = "cni";
    this.#source ??= "cni";
    this.#kubernetes ??= kubernetes;
    this.#attachments.push(attachment);
    this.#containerIds.add(attachment.containerId);
  }

  addContainer(container: Container): void {
    if (this.#source === undefined || this.#source === "netns") this.#source = container.source;
    this.#kubernetes ??= container.kubernetes;
    this.#pid ??= container.pid;
    this.#containers.push(container);
    this.#containerIds.add(container.id);
  }

  addProcess(pid: number): void {
    this.#source ??= "process";
    this.#pid ??= pid;
  }

  done(): Pod {
    const { inode, path } = this;
    const names = this.#allNames();
    return present({
      name: names[0]!,
      aliases: names.slice(1),
      source: this.#source ?? "process",
      path,
      inode,
      containerIds: [...this.#containerIds],
      attachments: this.#attachments,
      pid: this.#pid,
      kubernetes: this.#kubernetes,
    });
  }

  /** The best name first. */
  #allNames(): string[] {
    const kubernetes =
      this.#kubernetes === undefined ? [] : [`${this.#kubernetes.namespace}/${this.#kubernetes.name}`];
    const containerNames = this.#containers.flatMap((container) => container.names);
    const given = this.#containers.some((container) => container.source === "podman")
      ? [...containerNames, ...this.#names]
      : [...this.#names, ...containerNames];
    const process = this.#pid === undefined ? [] : [`pid:${this.#pid}`];
    const ids = [...this.#containerIds];
    const short = given.length === 0 && ids[0] !== undefined ? [ids[0].slice(0, 12)] : [];
    return [...new Set([...kubernetes, ...given, ...short, ...process, ...ids, this.path])];
  }
}

/** The name of the pod behind each address, for naming flows. */
export function podsByAddress(pods: readonly Pod[] = listPods()): Map<string, string> {
  const names = new Map<string, string>();
  for (const pod of pods) {
    for (const address of podAddresses(pod)) if (!names.has(address)) names.set(address, pod.name);
  }
  return names;
}
