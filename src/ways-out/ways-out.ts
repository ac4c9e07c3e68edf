/**
 * Room `ways-out/`: the namespaces on this node that were given a way out, by `wayout attach` or by any CNI plugin,
 * and whether it works.
 *
 * In: our records, the runtimes' results.
 * Out: ways out, each with its problems by code.
 * Touches: it reads the node and the pods' namespaces, and changes nothing.
 */
import { addressOf } from "../address/ip.ts";
import { MOST_SETTINGS_BYTES, readRegular } from "../kernel/file.ts";
import { join } from "node:path";
import { WayoutError } from "../error.ts";
import type { NatIntent } from "../nat/intent.ts";
import { allIntents } from "../nat/installed.ts";
import { cacheDirectories, readCaches, type CachedAttachment, type UnreadCache } from "../pods/cni-cache.ts";
import { namespaceOf } from "../pods/pod-addresses.ts";
import { bridgeName, cniProblems, NodeFacts, type NodeSide } from "./cni-way.ts";
import { outsideOf, withPrograms, type Outside } from "./outside.ts";
import { translationAtLinks } from "../nat/backends/at-links.ts";
import type { Problem } from "./problem.ts";
import { present } from "../present.ts";

/** Where host-local keeps its reservations, unless it is told otherwise. */
const RESERVATIONS = "/var/lib/cni/networks";

export interface WayOutOfPod {
  readonly kind: "attach" | "cni";
  /** The namespace's name or path; `namespace/pod` or the container's id for CNI. */
  readonly name: string;
  /** The bridge for attachments, the CNI network otherwise. */
  readonly network: string;
  readonly bridge?: string;
  readonly interface: string;
  /** Path of the namespace. */
  readonly path: string;
  /** With prefix. */
  readonly addresses: readonly string[];
  readonly gateways: readonly string[];
  /** One for each address, in the same order. */
  readonly outside: readonly Outside[];
  /** Empty when the way out stands. undefined: not to be seen without privilege. */
  readonly problems: readonly Problem[] | undefined;
}

/** Everybody, and what could not be read. */
export interface WaysOut {
  /** By name. */
  readonly pods: readonly WayOutOfPod[];
  readonly unread: readonly UnreadCache[];
}

/** Those that `wayout attach` made, and what they want of NAT, as far as anything is to be translated. */
export interface AttachedWaysOut {
  readonly pods: readonly Omit<WayOutOfPod, "outside">[];
  readonly intents: readonly NatIntent[];
}

/** @param directories where libcni's clients keep their results */
export function waysOut(
  node: NodeSide,
  attached: AttachedWaysOut,
  directories = cacheDirectories(),
): WaysOut {
  const intents = [...attached.intents, ...foreignIntents(node, attached.intents)];
  const atLinks = translationAtLinks(node.namespace);
  const outside = (addresses: readonly string[], entrances: readonly string[]): Outside[] =>
    addresses.map((text) => {
      const address = addressOf(text);
      return withPrograms(outsideOf(node.route, address, intents, entrances), address, atLinks);
    });
  const facts = new NodeFacts(node);
  const { attachments, unread } = readCaches(directories);
  const pods = [
    ...attached.pods.map((pod): WayOutOfPod => ({
      ...pod,
      outside: outside(pod.addresses, [pod.network]),
    })),
    ...attachments
      // The loopback plugin's results are of no way out.
      .filter(
        (cached) =>
          cached.interface !== "lo" && (namespaceOf(cached) !== undefined || isLeftOver(node, cached)),
      )
      .map((cached): WayOutOfPod => {
        return {
          kind: "cni",
          name: nameOf(cached),
          network: cached.network,
          ...present({ bridge: bridgeName(node, cached) }),
          interface: cached.interface,
          path: cached.netns,
          addresses: cached.addresses,
          gateways: cached.gateways,
          outside: outside(cached.addresses, cached.hostInterfaces),
          problems: cniProblems(facts, cached),
        };
      }),
  ];
  return { pods: pods.sort((a, b) => (a.name < b.name ? -1 : 1)), unread };
}

/** Of a pod that is gone: an interface, or an address that is reserved for it. What gc took away is nobody's any more. */
function isLeftOver(node: NodeSide, cached: CachedAttachment): boolean {
  const veths = cached.hostInterfaces.filter((name) => node.route.link(name)?.kind === "veth");
  return veths.length > 0 || cached.addresses.some((text) => isReserved(cached, addressOf(text)));
}

/** host-local's file of an address begins with its holder. */
function isReserved({ network, containerId }: CachedAttachment, address: string): boolean {
  try {
    return readRegular(join(RESERVATIONS, network, address), MOST_SETTINGS_BYTES).text.startsWith(
      containerId,
    );
  } catch {
    return false;
  }
}

function nameOf({ kubernetes, containerId }: CachedAttachment): string {
  const SHORT_ID = 12;
  return kubernetes === undefined
    ? containerId.slice(0, SHORT_ID)
    : `${kubernetes.namespace}/${kubernetes.name}`;
}

/** What others than `attach` want translated: CNI networks, a policy. */
function foreignIntents(node: NodeSide, own: readonly NatIntent[]): NatIntent[] {
  const ours = new Set(own.map(({ owner }) => owner));
  try {
    return allIntents(node.namespace).filter(({ owner }) => !ours.has(owner));
  } catch (error) {
    // Without privilege nobody can say.
    if (error instanceof WayoutError && error.kind === "machine") return [];
    throw error;
  }
}
