/** Everybody on this node who was given a way out: by `wayout attach`, or by any CNI plugin. */
import { BACKENDS } from "../nat/backends/backends.ts";
import { isRefusal } from "../attachment/build.ts";
import { podProblems, nodeProblems } from "../attachment/health.ts";
import { inspectAttachments } from "../attachment/inspect.ts";
import type { AttachmentNode } from "../attachment/node.ts";
import { outsideOf, type Outside } from "../attachment/outside.ts";
import { natIntentOf } from "../attachment/translation.ts";
import { WayoutError } from "../error.ts";
import { NetworkNamespace } from "../kernel/namespace.ts";
import type { NatIntent } from "../nat/intent.ts";
import { allIntents } from "../nat/installed.ts";
import { cachedAttachments, CNI_CACHE_DIRECTORY, type CachedAttachment } from "../pods/cni-cache.ts";

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
  /** Short sentences; empty when the way out stands. undefined: not to be seen without privilege. */
  readonly problems: readonly string[] | undefined;
}

/** @param cacheDirectory where libcni's clients keep their results */
export function waysOut(node: AttachmentNode, cacheDirectory = CNI_CACHE_DIRECTORY): WayOutOfPod[] {
  const attached = inspectAttachments(node);
  const translated = attached.filter(({ network }) => BACKENDS[network.backend].translates);
  const wanted = translated.map(({ network }) =>
    natIntentOf(
      network,
      attached.filter((other) => other.network === network).map(({ attachment }) => attachment),
    ),
  );
  const intents = [...wanted, ...foreignIntents(node, wanted)];
  const outside = (addresses: readonly string[]): Outside[] =>
    addresses.map((text) => outsideOf(node.route, text.split("/")[0]!, intents));
  return [
    ...attached.map(({ attachment, network, problems }): WayOutOfPod => ({
      kind: "attach",
      name: attachment.label,
      network: network.bridge,
      bridge: network.bridge,
      interface: attachment.interface,
      path: attachment.path,
      addresses: attachment.addresses,
      gateways: network.gateways,
      outside: outside(attachment.addresses),
      problems,
    })),
    ...cachedAttachments(cacheDirectory).map((cached): WayOutOfPod => {
      const bridge = cached.hostInterfaces.find((name) => node.route.link(name)?.kind === "bridge");
      return {
        kind: "cni",
        name: nameOf(cached),
        network: cached.network,
        ...(bridge === undefined ? {} : { bridge }),
        interface: cached.interface,
        path: cached.netns,
        addresses: cached.addresses,
        gateways: cached.gateways,
        outside: outside(cached.addresses),
        problems: cniProblems(node, cached, bridge),
      };
    }),
  ];
}

function nameOf({ kubernetes, containerId }: CachedAttachment): string {
  const SHORT_ID = 12;
  return kubernetes === undefined
    ? containerId.slice(0, SHORT_ID)
    : `${kubernetes.namespace}/${kubernetes.name}`;
}

/** What others than `attach` want translated: CNI networks, a policy. */
function foreignIntents(node: AttachmentNode, own: readonly NatIntent[]): NatIntent[] {
  const ours = new Set(own.map(({ owner }) => owner));
  try {
    return allIntents(node.namespace).filter(({ owner }) => !ours.has(owner));
  } catch (error) {
    // Without privilege nobody can say.
    if (error instanceof WayoutError && error.kind === "machine") return [];
    throw error;
  }
}

function cniProblems(
  node: AttachmentNode,
  cached: CachedAttachment,
  bridge: string | undefined,
): string[] | undefined {
  let pod: NetworkNamespace;
  try {
    pod = NetworkNamespace.open(cached.netns);
  } catch (error) {
    return isRefusal(error) ? undefined : ["the namespace is gone"];
  }
  using namespace = pod;
  const host = cached.hostInterfaces.find((name) => name !== bridge);
  const expected = {
    interface: cached.interface,
    addresses: cached.addresses,
    // Whether a network's gateway is anybody's default gateway is the network's own affair.
    gateways: [],
    ...(bridge === undefined ? {} : { bridge }),
    ...(host === undefined ? {} : { hostInterface: host }),
  };
  return [...podProblems(namespace, expected), ...nodeProblems(node.route, expected)];
}
