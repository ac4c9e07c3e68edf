/** What a CNI plugin's result and configuration promised, asked of the kernel. */
import { addressOf, type IpFamily, prefixFamily } from "../address/ip.ts";
import { isRefusal, WayoutError } from "../error.ts";
import { NetworkNamespace } from "../kernel/namespace.ts";
import type { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { networkOwner } from "../naming/names.ts";
import { driftsOf } from "../nat/installed.ts";
import type { CachedAttachment } from "../pods/cni-cache.ts";
import { namespaceOf } from "../pods/pod-addresses.ts";
import { podRoute } from "../pods/pod-socket.ts";
import { readNatListing } from "../rules/read-listing.ts";
import { defaultRoutes, linkProblems, type ExpectedLink } from "./expected.ts";
import { exitsOf } from "./outside.ts";
import { forwardingProblems, natProblems, problem, type Problem } from "./problem.ts";
import { present } from "../present.ts";

/** The node's side of all ways out. */
export interface NodeSide {
  readonly namespace: NetworkNamespace;
  /** rtnetlink in the same namespace. */
  readonly route: Rtnetlink;
}

/** What is the same for many pods of the node, read when it is first asked for. */
export class NodeFacts {
  #isAnythingTranslated: boolean | undefined;
  readonly #ofNetwork = new Map<string, readonly Problem[]>();

  constructor(readonly node: NodeSide) {}

  /** What is wrong for every pod of a network, looked for once. */
  once(network: string, look: () => readonly Problem[]): readonly Problem[] {
    const known = this.#ofNetwork.get(network) ?? look();
    this.#ofNetwork.set(network, known);
    return known;
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
  // An old runtime's note of an old plugin's answer names none.
  if (cached.netns === "") return undefined;
  let pod: NetworkNamespace;
  try {
    if (namespaceOf(cached) === undefined) return [gone()];
    pod = NetworkNamespace.open(cached.netns);
  } catch (error) {
    return isRefusal(error) ? undefined : [gone()];
  }
  using namespace = pod;
  using inside = podRoute(namespace);
  const { node } = facts;
  const bridge = bridgeName(node, cached);
  return [
    ...linkProblems(node.route, inside, expectedLink(cached, bridge)),
    ...forwardingOf(node, cached, bridge),
    ...facts.once(`${cached.masqueradedBy} ${cached.network}`, () => translationProblems(facts, cached)),
  ];
}

function gone(): Problem {
  return problem("pod-namespace-gone", "the namespace is gone");
}

/** Of other plugins' addresses only the address counts: some report the subnet, and give the pod the address alone. */
function expectedLink(cached: CachedAttachment, bridge: string | undefined): ExpectedLink {
  const host = cached.hostInterfaces.find((name) => name !== bridge);
  return present({
    interface: cached.interface,
    addresses: cached.addresses.map((text) => addressOf(text)),
    routes: defaultRoutes(cached.defaultGateways),
    hostInterface: host,
    bridge,
    gateways: cached.bridge?.isGateway === true ? cached.gateways : [],
  });
}

/** The bridge of its configuration, or that of its result. */
export function bridgeName({ route }: NodeSide, cached: CachedAttachment): string | undefined {
  return (
    cached.bridge?.name ?? cached.hostInterfaces.find((name) => route.linkState(name)?.kind === "bridge")
  );
}

/** A network whose gateway is this node is forwarded by it. */
function forwardingOf(node: NodeSide, cached: CachedAttachment, bridge: string | undefined): Problem[] {
  if (cached.bridge?.isGateway !== true || bridge === undefined) return [];
  const entrance = node.route.linkState(bridge);
  if (entrance === undefined) return [];
  const families = [...new Set(cached.addresses.map((text): IpFamily => prefixFamily(text)))];
  return forwardingProblems(families, entrance, node.namespace, exitsOf(node.route, families));
}

/** Ours by what they want; of another plugin only that nothing at all is translated can be told for certain. */
function translationProblems(facts: NodeFacts, { masqueradedBy, network }: CachedAttachment): Problem[] {
  if (masqueradedBy === undefined) return [];
  const gone = problem(
    "nat-missing",
    `the rules with which ${masqueradedBy} translates the packets of network ${network} are gone`,
  );
  if (masqueradedBy !== "wayout") return facts.isAnythingTranslated ? [] : [gone];
  const drifts = ownDrifts(facts.node, networkOwner(network));
  return drifts === undefined ? [gone] : natProblems(drifts);
}

/** undefined when no backend holds anything of the owner. */
function ownDrifts(node: NodeSide, owner: string) {
  try {
    return driftsOf(node.namespace, owner);
  } catch (error) {
    // Without privilege nobody can say.
    if (error instanceof WayoutError && error.kind === "machine") return [];
    throw error;
  }
}
