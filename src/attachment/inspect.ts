/** How the attachments of this node are doing. */
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { driftText, MISSING } from "../nat/backend.ts";
import { openNat } from "../nat/open.ts";
import { isRefusal, networkOf, openPod } from "./build.ts";
import { nodeProblems, podProblems } from "./health.ts";
import type { AttachmentNode } from "./node.ts";
import { problem, type Problem, type ProblemCode } from "./problem.ts";
import type { AttachmentRecord, NetworkRecord, NodeRecord } from "./record.ts";
import { forwardingNeeded } from "./settings.ts";
import { natIntentOf } from "./translation.ts";

/** An attachment with what is wrong with it. */
export interface InspectedAttachment {
  readonly attachment: AttachmentRecord;
  readonly network: NetworkRecord;
  /** Empty when the way out stands. undefined: this user may not look. */
  readonly problems: readonly Problem[] | undefined;
}

/** Every attachment of the node, in the order in which they were made. */
export function inspectAttachments(node: AttachmentNode): InspectedAttachment[] {
  const record = node.store.read();
  const ofNetwork = new Map(
    record.networks.map((network) => [network.bridge, seen(() => networkProblems(node, record, network))]),
  );
  return record.attachments.map((attachment) => {
    const network = networkOf(record, attachment);
    const own = seen(() => {
      using pod = openPod(attachment);
      return linkProblems(node, network, attachment, pod);
    });
    const shared = ofNetwork.get(network.bridge);
    const problems = own === undefined || shared === undefined ? undefined : [...own, ...shared];
    return { attachment, network, problems };
  });
}

/** What was found; undefined when this user may not look. */
function seen<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch (error) {
    if (isRefusal(error)) return undefined;
    throw error;
  }
}

/** Everything that is wrong with one attachment. @param pod its namespace */
export function attachmentProblems(
  node: AttachmentNode,
  record: NodeRecord,
  attachment: AttachmentRecord,
  pod: NetworkNamespace,
): Problem[] {
  const network = networkOf(record, attachment);
  return [...linkProblems(node, network, attachment, pod), ...networkProblems(node, record, network)];
}

function linkProblems(
  node: AttachmentNode,
  network: NetworkRecord,
  attachment: AttachmentRecord,
  pod: NetworkNamespace | undefined,
): Problem[] {
  if (attachment.phase !== "attached") {
    return [problem("half-made", `incomplete: a wayout command was killed while ${attachment.phase} it`)];
  }
  if (pod === undefined) return [problem("pod-namespace-gone", "the namespace is gone")];
  const hasFamily = (gateway: string): boolean =>
    attachment.addresses.some((address) => address.includes(":") === gateway.includes(":"));
  const expected = { ...attachment, gateways: network.gateways.filter(hasFamily) };
  return [...podProblems(pod, expected), ...nodeProblems(node.route, expected)];
}

/** What is wrong for everybody on the bridge. */
function networkProblems(node: AttachmentNode, record: NodeRecord, network: NetworkRecord): Problem[] {
  using nat = openNat(network.backend, node.namespace);
  const sharing = record.attachments.filter(({ bridge }) => bridge === network.bridge);
  return [
    ...forwardingNeeded(node, network).map(({ name, before }) =>
      problem(codeOfSetting(name), `${name} is ${before}`),
    ),
    ...nat
      .verify(natIntentOf(network, sharing))
      .map((drift) => problem(drift.found === MISSING ? "nat-missing" : "nat-drift", driftText(drift))),
  ];
}

/** With forwarding goes accept_ra, without which the node loses the routes that it was told of. */
function codeOfSetting(name: string): ProblemCode {
  return name.endsWith(".accept_ra") ? "router-advertisement-lost" : "forwarding-off";
}
