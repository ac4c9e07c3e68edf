/**
 * Pods that live in the node's own network, which no list of namespaces shows. Kubelet keeps a folder of logs for each
 * pod of this node, `namespace_name_uid`, and every runtime puts a pod's processes into a cgroup that is named by the uid.
 */
import { readdirSync } from "node:fs";
import { readText } from "../kernel/file.ts";
import { namespaceInode, OWN_NAMESPACE } from "../kernel/namespace.ts";

const POD_LOGS = "/var/log/pods";

/** A pod of which kubelet keeps logs here: it runs, is about to, or has ended. */
export interface LoggedPod {
  /** `namespace/name`. */
  readonly name: string;
  /** That of the API server; of a pod that is a file on this node the file's hash. */
  readonly uid: string;
}

export interface HostNetworkPod extends LoggedPod {
  readonly containerIds: readonly string[];
}

/** Empty where no kubelet is. */
export function loggedPods(): LoggedPod[] {
  let folders: string[];
  try {
    folders = readdirSync(POD_LOGS);
  } catch {
    return [];
  }
  return folders.sort().flatMap((folder) => {
    const [namespace, name, uid, more] = folder.split("_");
    if (name === undefined || uid === undefined || more !== undefined) return [];
    return [{ name: `${namespace}/${name}`, uid }];
  });
}

/** Those that have a process in the network namespace of the calling thread, by name. */
export function hostNetworkPods(logged: readonly LoggedPod[] = loggedPods()): HostNetworkPod[] {
  if (logged.length === 0) return [];
  const found = new Map(logged.map((pod) => [pod.uid, { ...pod, containerIds: new Set<string>() }]));
  const seen = new Set<string>();
  const own = namespaceInode(OWN_NAMESPACE);
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    const member = memberOf(pid);
    if (member === undefined || namespaceInode(`/proc/${pid}/ns/net`) !== own) continue;
    seen.add(member.uid);
    if (member.container !== undefined) found.get(member.uid)?.containerIds.add(member.container);
  }
  return [...found.values()]
    .filter(({ uid }) => seen.has(uid))
    .map((pod) => ({ ...pod, containerIds: [...pod.containerIds] }));
}

/** As the API server gives it out, with _ for - in the names of systemd's slices; of a pod that is a file its hash. */
const POD_SLICE = /[/-]pod((?:[0-9a-f]{8}(?:[_-][0-9a-f]{4}){3}[_-][0-9a-f]{12})|[0-9a-f]{32})(?=[/.]|$)/m;

/**
 * `/kubepods/burstable/podUID/CONTAINER`, or as systemd has it `…-podUID.slice/cri-containerd-CONTAINER.scope`. Seen from the
 * cgroup namespace of another pod the path begins in the middle: `/../../podUID/CONTAINER`.
 */
function memberOf(pid: string): { readonly uid: string; readonly container: string | undefined } | undefined {
  let text: string;
  try {
    text = readText(`/proc/${pid}/cgroup`);
  } catch {
    // It has ended meanwhile.
    return undefined;
  }
  const [, uid] = POD_SLICE.exec(text) ?? [];
  if (uid === undefined) return undefined;
  return { uid: uid.replaceAll("_", "-"), container: /[0-9a-f]{64}/.exec(text)?.[0] };
}
