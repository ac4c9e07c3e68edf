/** What attachments promised: a record says it, ways-out/ compares it with the kernel. */
import { prefixFamily } from "../address/ip.ts";
import { isRefusal } from "../error.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { BACKENDS } from "../nat/backends/backends.ts";
import { openNat } from "../nat/open.ts";
import { podRoute } from "../pods/pod-socket.ts";
import { defaultRoutes, linkProblems, type ExpectedLink } from "../ways-out/expected.ts";
import { exitsOf } from "../ways-out/outside.ts";
import { forwardingProblems, natProblems, problem, type Problem } from "../ways-out/problem.ts";
import type { AttachedWaysOut } from "../ways-out/ways-out.ts";
import { networkOf, openPod } from "./build.ts";
import type { AttachmentNode } from "./node.ts";
import type { AttachmentRecord, NetworkRecord, NodeRecord } from "./record.ts";
import { familiesOf, forwardingNeeded } from "./settings.ts";
import { natIntentOf } from "./translation.ts";

/** Every attachment of the node, in the order in which they were made. */
export function attachedWaysOut(node: AttachmentNode): AttachedWaysOut {
  const record = node.store.read();
  const { networks, attachments } = record;
  const ofNetwork = new Map(
    networks.map((network) => [network.bridge, seen(() => networkProblems(node, record, network))]),
  );
  return {
    pods: attachments.map((attachment) => {
      const network = networkOf(record, attachment);
      const own = seen(() => {
        using pod = openPod(attachment);
        return ownProblems(node, network, attachment, pod);
      });
      const shared = ofNetwork.get(network.bridge);
      return {
        kind: "attach",
        name: attachment.label,
        network: network.bridge,
        bridge: network.bridge,
        interface: attachment.interface,
        path: attachment.path,
        addresses: attachment.addresses,
        gateways: network.gateways,
        problems: own === undefined || shared === undefined ? undefined : [...own, ...shared],
      };
    }),
    intents: networks
      .filter(({ backend }) => BACKENDS[backend].translates)
      .map((network) => natIntentOf(network, sharing(record, network))),
  };
}

function sharing({ attachments }: NodeRecord, network: NetworkRecord): AttachmentRecord[] {
  return attachments.filter(({ bridge }) => bridge === network.bridge);
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
  return [...ownProblems(node, network, attachment, pod), ...networkProblems(node, record, network)];
}

function ownProblems(
  node: AttachmentNode,
  network: NetworkRecord,
  attachment: AttachmentRecord,
  pod: NetworkNamespace | undefined,
): Problem[] {
  if (attachment.phase !== "attached") {
    return [problem("half-made", `incomplete: a wayout command was killed while ${attachment.phase} it`)];
  }
  if (pod === undefined) return [problem("pod-namespace-gone", "the namespace is gone")];
  using inside = podRoute(pod);
  return linkProblems(node.route, inside, expectedLink(attachment, network));
}

function expectedLink(attachment: AttachmentRecord, network: NetworkRecord): ExpectedLink {
  const families = new Set(attachment.addresses.map((text) => prefixFamily(text)));
  const gateways = network.gateways.filter((text) => families.has(prefixFamily(text)));
  const { interface: name, addresses, hostInterface, bridge } = attachment;
  return { interface: name, addresses, hostInterface, bridge, gateways, routes: defaultRoutes(gateways) };
}

/** What is wrong for everybody on the bridge. */
function networkProblems(node: AttachmentNode, record: NodeRecord, network: NetworkRecord): Problem[] {
  using nat = openNat(network.backend, node.namespace);
  const families = familiesOf(network);
  const bridge = node.route.linkState(network.bridge);
  const exits = exitsOf(node.route, families);
  return [
    ...(bridge === undefined ? [] : forwardingProblems(families, bridge, node.namespace, exits)),
    ...advertisementProblems(node, network),
    ...natProblems(nat.verify(natIntentOf(network, sharing(record, network)))),
  ];
}

/** With forwarding goes accept_ra, without which the node loses the routes that it was told of. */
function advertisementProblems(node: AttachmentNode, network: NetworkRecord): Problem[] {
  return forwardingNeeded(node, network)
    .filter(({ name }) => name.endsWith(".accept_ra"))
    .map(({ name, before }) => problem("router-advertisement-lost", `${name} is ${before}`));
}
