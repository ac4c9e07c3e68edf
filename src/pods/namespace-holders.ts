/** What keeps the network namespaces of this machine alive, as far as it can be seen from here: processes and names. */
import { readdirSync, readlinkSync } from "node:fs";
import { namespaceInode, NetworkNamespace, OWN_NAMESPACE } from "../kernel/namespace.ts";
import type { LinkRtnetlink } from "../kernel/route/link-rtnetlink.ts";
import type { LinkState } from "../linux/route/link-state.ts";
import { MOST_MOUNTS_BYTES } from "../kernel/mounts.ts";
import { readRegular } from "../kernel/file.ts";
import { givenUpBecause, podRoute } from "./pod-socket.ts";

/** A namespace that a process holds. */
interface Held {
  readonly namespace: NetworkNamespace;
  /** `process 4711`, `/run/netns/blue`. */
  readonly holder: string;
}

/** Seen from one node: who holds the namespace at the other end of a link, or the one that has an address. */
export class NamespaceHolders implements Disposable {
  readonly #held: readonly Held[];
  #byId: Map<number, string> | undefined;
  #byAddress: Map<string, string> | undefined;
  /** Who holds a namespace with more addresses than are read: any may be among them. */
  #mayHaveAny: string | undefined;

  constructor(private readonly node: LinkRtnetlink) {
    this.#held = heldNamespaces();
  }

  /** Of the namespace that a veth's peer is in; undefined when nobody is seen to hold it. */
  of({ linkNamespaceId }: LinkState): string | undefined {
    if (linkNamespaceId === undefined) return undefined;
    this.#byId ??= new Map(
      this.#held.flatMap(({ namespace, holder }) => {
        const id = this.node.namespaceId(namespace.fd);
        return id === undefined ? [] : [[id, holder] as const];
      }),
    );
    return this.#byId.get(linkNamespaceId);
  }

  /** Of a namespace with an interface that has this address. */
  ofAddress(address: string): string | undefined {
    this.#byAddress ??= new Map(
      this.#held.flatMap(({ namespace, holder }) => {
        return this.#addressesIn(namespace, holder).map((own) => [own, holder] as const);
      }),
    );
    return this.#byAddress.get(address) ?? this.#mayHaveAny;
  }

  #addressesIn(namespace: NetworkNamespace, holder: string): string[] {
    using route = podRoute(namespace);
    try {
      return route.addresses().map(({ address }) => address);
    } catch (error) {
      if (givenUpBecause(error) === undefined) throw error;
      this.#mayHaveAny ??= `${holder}, whose addresses are too many to be read`;
      return [];
    }
  }

  [Symbol.dispose](): void {
    for (const { namespace } of this.#held) namespace.close();
  }
}

/** Every network namespace but the own one, once. */
function heldNamespaces(): Held[] {
  const found = new Map<number, Held>();
  const own = namespaceInode(OWN_NAMESPACE);
  const add = (path: string, holder: string): void => {
    const inode = namespaceInode(path);
    if (inode === undefined || inode === own || found.has(inode)) return;
    try {
      found.set(inode, { namespace: NetworkNamespace.open(path), holder });
    } catch {
      // It has ended meanwhile, or may not be entered: then it is not seen.
    }
  };
  const mounts = new Set<string>();
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    const world = mountNamespace(pid);
    if (world !== undefined && !mounts.has(world)) {
      mounts.add(world);
      for (const point of namespaceMounts(pid)) add(`/proc/${pid}/root${point}`, point);
    }
    add(`/proc/${pid}/ns/net`, `process ${pid}`);
  }
  return [...found.values()];
}

function mountNamespace(pid: string): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/mnt`);
  } catch {
    return undefined;
  }
}

/** Where network namespaces are mounted in a process's view (proc_pid_mountinfo(5)). */
function namespaceMounts(pid: string): string[] {
  try {
    const { text } = readRegular(`/proc/${pid}/mountinfo`, MOST_MOUNTS_BYTES);
    return text.split("\n").flatMap((line) => {
      const [, , , root = "", point = ""] = line.split(" ");
      return root.startsWith("net:[") ? [point.replaceAll("\\040", " ")] : [];
    });
  } catch {
    return [];
  }
}
