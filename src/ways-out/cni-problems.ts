/** Whether the way out that a CNI plugin made still stands: what its result and its configuration promised, asked of the kernel. */
import { ipFamily } from "../address/ip.ts";
import { isRefusal } from "../attachment/build.ts";
import { nodeProblems, podProblems } from "../attachment/health.ts";
import type { AttachmentNode } from "../attachment/node.ts";
import { problem, type Problem } from "../attachment/problem.ts";
import { notForwarded, readForwarding, type Forwarding } from "../forwarding/forwarding.ts";
import { NetworkNamespace } from "../kernel/namespace.ts";
import type { NatIntent } from "../nat/intent.ts";
import { networkOwner } from "../naming/names.ts";
import { readNatListing } from "../rules/read-listing.ts";
import type { CachedAttachment } from "../pods/cni-cache.ts";

/** What is the same for every pod of the node, read when it is first asked for. */
export class NodeFacts {
  #forwarding: Forwarding | undefined;
  #isAnythingTranslated: boolean | undefined;

  constructor(
    readonly node: AttachmentNode,
    /** What everybody wants of our backends. */
    readonly intents: readonly NatIntent[],
  ) {}

  get forwarding(): Forwarding {
    return (this.#forwarding ??= readForwarding(this.node.namespace));
  }

  /** Whether any rule that packets meet translates what leaves the node. */
  get isAnythingTranslated(): boolean {
    return (this.#isAnythingTranslated ??= readNatListing(this.node.namespace).chains.some(
      ({ hook, rules }) =>
        hook === "postrouting" &&
        rules.some(({ translates, dead }) => translates !== undefined && dead === undefined),
    ));
  }
}

/** Empty when the way out stands; undefined where this user may not look. */
export function cniProblems(facts: NodeFacts, cached: CachedAttachment): Problem[] | undefined {
  let pod: NetworkNamespace;
  try {
    pod = NetworkNamespace.open(cached.netns);
  } catch (error) {
    return isRefusal(error) ? undefined : [problem("pod-namespace-gone", "the namespace is gone")];
  }
  using namespace = pod;
  const { route } = facts.node;
  const bridge = bridgeName(facts.node, cached);
  const host = cached.hostInterfaces.find((name) => name !== bridge);
  const expected = {
    interface: cached.interface,
    addresses: cached.addresses,
    ...(bridge === undefined ? {} : { bridge }),
    ...(host === undefined ? {} : { hostInterface: host }),
  };
  const onNode = cached.bridge?.isGateway === true ? cached.gateways : [];
  return [
    ...podProblems(namespace, { ...expected, gateways: cached.defaultGateways }),
    ...nodeProblems(route, { ...expected, gateways: onNode }),
    ...forwardingProblems(facts, cached, bridge),
    ...translationProblems(facts, cached),
  ];
}

/** The bridge of its configuration, or that of its result. */
export function bridgeName({ route }: AttachmentNode, cached: CachedAttachment): string | undefined {
  return cached.bridge?.name ?? cached.hostInterfaces.find((name) => route.link(name)?.kind === "bridge");
}

/** A network whose gateway is this node is forwarded by it. */
function forwardingProblems(
  facts: NodeFacts,
  cached: CachedAttachment,
  bridge: string | undefined,
): Problem[] {
  if (cached.bridge?.isGateway !== true) return [];
  const families = new Set(cached.addresses.map((text) => ipFamily(text.split("/")[0]!)));
  return [...families].flatMap((family) =>
    notForwarded(facts.forwarding, family)
      .filter(({ link }) => link === bridge)
      .map(({ sysctl }) => problem("forwarding-off", `${sysctl} is 0`)),
  );
}

/** Ours by what they want; of another plugin only that nothing at all is translated can be told for certain. */
function translationProblems(facts: NodeFacts, { masqueradedBy, network }: CachedAttachment): Problem[] {
  if (masqueradedBy === undefined) return [];
  const stands =
    masqueradedBy === "wayout"
      ? facts.intents.some(({ owner }) => owner === networkOwner(network))
      : facts.isAnythingTranslated;
  return stands
    ? []
    : [
        problem(
          "nat-missing",
          `the rules with which ${masqueradedBy} translates the packets of network ${network} are gone`,
        ),
      ];
}
