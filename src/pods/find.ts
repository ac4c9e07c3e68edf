/** From what a person types to a pod. */
import { existsSync } from "node:fs";
import { isIp, canonicalIp } from "../address/ip.ts";
import { WayoutError } from "../error.ts";
import { SystemError } from "../linux/errno.ts";
import { namespaceInode, NETNS_DIRECTORY, NetworkNamespace } from "../kernel/namespace.ts";
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { command, type CommandLine } from "../text/command.ts";
import { editDistance } from "../text/edit-distance.ts";
import { cachedAttachments } from "./cni-cache.ts";
import { hostNetworkPods, loggedPods, type LoggedPod } from "./host-network.ts";
import { listPods } from "./inventory.ts";
import { podAddresses } from "./pod-addresses.ts";
import type { Pod } from "./pod.ts";
import { present } from "../present.ts";

/** Shorter prefixes of a container id hit the wrong one too easily. */
const SHORTEST_ID_PREFIX = 4;
const MOST_SUGGESTIONS = 5;

/**
 * The pod that `text` names: an `ip netns` name, a path of a namespace, `pid:N`, a container's name or id (or the
 * beginning of it), `namespace/pod`, or one of its addresses.
 * @throws WayoutError unknown-pod with the nearest names, ambiguous-pod with the candidates
 */
export function findPod(text: string): Pod {
  const direct = podByPath(text);
  if (direct !== undefined) return direct;
  const pods = listPods();
  const found = candidates(text, pods);
  const [first, second] = found;
  if (first === undefined) throw unknownPod(text, pods);
  if (second !== undefined) {
    throw new WayoutError({
      code: "ambiguous-pod",
      kind: "usage",
      doing: `finding the pod ${text}`,
      said: `it could be ${found.map((pod) => pod.name).join(" or ")}`,
      todo: "Write more of the name or id.",
    });
  }
  return first;
}

/**
 * A pod that was: a name under /run/netns without a namespace behind it, or an attachment in the CNI result cache whose
 * namespace is gone. Nothing in it can be opened; only the doctor has something to say about it.
 */
export function formerPod(text: string): Pod | undefined {
  const path = `${NETNS_DIRECTORY}/${text}`;
  const named = /^[^/]+$/.test(text) && existsSync(path);
  const attachments = cachedAttachments().filter(
    ({ kubernetes, containerId }) =>
      (kubernetes !== undefined && `${kubernetes.namespace}/${kubernetes.name}` === text) ||
      (text.length >= SHORTEST_ID_PREFIX && containerId.startsWith(text)),
  );
  const [first] = attachments;
  if (!named && first === undefined) return undefined;
  return {
    name: text,
    aliases: [],
    source: named ? "netns" : "cni",
    path: named ? path : first!.netns,
    inode: 0,
    containerIds: attachments.map((one) => one.containerId),
    attachments,
  };
}

/** Forms that need no look at the rest of the node. */
function podByPath(text: string): Pod | undefined {
  const pid = /^pid:(\d+)$/.exec(text)?.[1];
  if (pid !== undefined) return atPath(`/proc/${pid}/ns/net`, text, Number(pid));
  if (text.startsWith("/") || text.startsWith("./")) return atPath(text, text);
  if (/^[^/]+$/.test(text) && text !== "." && text !== "..")
    return atPath(`${NETNS_DIRECTORY}/${text}`, text);
  return undefined;
}

function atPath(path: string, name: string, pid?: number): Pod | undefined {
  const inode = namespaceInode(path);

  if (inode === undefined || !opens(path)) return undefined;
  return present({
    name,
    aliases: [],
    source: pid === undefined ? "netns" : "process",
    path,
    inode,
    containerIds: [],
    attachments: [],
    pid,
  });
}

/** Whether there is a network namespace behind the path, and not a left-over file. */
function opens(path: string): boolean {
  try {
    NetworkNamespace.open(path).close();
    return true;
  } catch (error) {
    // Not ours to enter, but there: entering it will say so.
    return error instanceof SystemError && error.code === "EPERM";
  }
}

function candidates(text: string, pods: readonly Pod[]): Pod[] {
  const exact = pods.filter((pod) => pod.name === text || pod.aliases.includes(text));
  if (exact.length > 0) return exact;
  if (isIp(text)) {
    const address = canonicalIp(text);
    return pods.filter((pod) => podAddresses(pod).includes(address));
  }
  const byName = pods.filter((pod) => pod.kubernetes?.name === text);
  if (byName.length > 0) return byName;
  if (text.length < SHORTEST_ID_PREFIX) return [];
  return pods.filter((pod) => pod.containerIds.some((id) => id.startsWith(text)));
}

function unknownPod(text: string, pods: readonly Pod[]): WayoutError {
  const near = nearestNames(
    text,
    pods.flatMap((pod) => [pod.name, ...pod.aliases.slice(0, 3)]),
  );
  const names = near.length > 0 ? near : pods.slice(0, MOST_SUGGESTIONS).map((pod) => pod.name);
  const elsewhere = isIp(text) ? whoseAddress(canonicalIp(text)) : kubeletSays(text);
  return new WayoutError({
    code: "unknown-pod",
    kind: "usage",
    doing: `finding the pod ${text}`,
    said:
      elsewhere?.said ??
      (pods.length === 0 ? "there is no other network namespace on this node" : "no pod has that name"),
    todo:
      elsewhere?.todo ??
      (names.length === 0
        ? "'ip netns add NAME' makes a namespace, 'wayout lab up' makes several that are connected."
        : `${near.length > 0 ? "Did you mean" : "There are"} ${names.join(", ")}?`),
    details: { nearest: names },
  });
}

interface Elsewhere {
  readonly said: string;
  readonly todo?: string;
}

const OF_THE_NODE =
  "Its packets leave as the node's own do: look at the node's routes (ip route get DESTINATION).";

/** What kubelet's folders of logs tell of a pod without a namespace of its own. */
function kubeletSays(text: string): Elsewhere | undefined {
  const logged = loggedPods();
  const isMeant = ({ name }: LoggedPod): boolean => name === text || name.split("/")[1] === text;
  const host = hostNetworkPods(logged).find(
    (pod) =>
      isMeant(pod) ||
      (text.length >= SHORTEST_ID_PREFIX && pod.containerIds.some((id) => id.startsWith(text))),
  );
  if (host !== undefined) {
    const subject = host.name === text ? "it" : host.name;
    return {
      said: `${subject} uses the node's own network (hostNetwork), and so has no way out that is only its own`,
      todo: OF_THE_NODE,
    };
  }
  if (logged.some(isMeant))
    return { said: "no process of it is left on this node: it has ended, or waits to be started" };
  const [namespace, name, more] = text.split("/");
  if (logged.length === 0 || name === undefined || name === "" || more !== undefined) return undefined;
  return {
    said: "kubelet knows no such pod on this node; it may be on another one",
    ...commandTodo(command`kubectl get pod --namespace ${namespace} ${name} --output wide`),
  };
}

function commandTodo(line: CommandLine | undefined): { readonly todo?: string } {
  return line === undefined ? {} : { todo: `${line} names its node: ask there.` };
}

/** An address that no pod of this node has: the node's own, or one behind another node. */
function whoseAddress(address: string): Elsewhere | undefined {
  using route = Rtnetlink.open();
  if (route.addresses().some((own) => own.address === address)) {
    return { said: "it is an address of this node itself, and of pods with hostNetwork", todo: OF_THE_NODE };
  }
  const answer = route.routeTo({ destination: address });
  const gateway = answer.reachable ? answer.route.gateway : undefined;
  const where = gateway === undefined ? "" : `; this node sends packets for it to ${gateway}`;
  return { said: `no pod of this node has this address${where}` };
}

/** Names within a third of their length in edits, or that contain the text; nearest first. */
export function nearestNames(text: string, names: readonly string[]): string[] {
  const wanted = text.toLowerCase();
  return [...new Set(names)]
    .map((name) => ({ name, distance: distanceTo(wanted, name.toLowerCase()) }))
    .filter(
      ({ name, distance }) => distance <= Math.max(1, Math.floor(Math.max(name.length, text.length) / 3)),
    )
    .sort((a, b) => a.distance - b.distance)
    .slice(0, MOST_SUGGESTIONS)
    .map(({ name }) => name);
}

function distanceTo(wanted: string, name: string): number {
  return wanted.length >= 3 && name.includes(wanted) ? 1 : editDistance(wanted, name);
}
