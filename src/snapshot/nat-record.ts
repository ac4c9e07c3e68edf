/** What we remember to have installed: says of a rule that is missing that it was there, and what it was. */
import { familyOf, addressOf } from "../address/ip.ts";
import { BACKENDS } from "../nat/backends/backends.ts";
import { AttachmentStore } from "../attachment/store.ts";
import { natIntentOf } from "../attachment/translation.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { GenerationMemory } from "../nat/generation-memory.ts";
import { networkIntent } from "../nat/network-intent.ts";
import { readWants } from "../nat/network-wants.ts";
import type { Gaps } from "./namespace.ts";
import type { ExpectedInterface, RecordedNat } from "./snapshot.ts";

/** Of this very namespace: the records of others lie beside them. */
export function readNatRecords(node: NetworkNamespace, gaps: Gaps): RecordedNat[] {
  return [
    ...(gaps.try("node", "our record of attachments", () => ofAttachments(node)) ?? []),
    ...(gaps.try("node", "our record of networks", () => ofPlugin(node)) ?? []),
  ];
}

/** Another text when these records may be others. */
export function natRecordsVersion(node: NetworkNamespace): string {
  return `${new AttachmentStore(node).version} ${new GenerationMemory(node).version}`;
}

/** What our record says that the attached namespaces were given, by the paths of their namespaces. */
export function readPromises(node: NetworkNamespace, gaps: Gaps): ReadonlyMap<string, ExpectedInterface> {
  const store = new AttachmentStore(node);
  const record = gaps.try("node", "our record of attachments", () => store.read());
  const networks = new Map((record?.networks ?? []).map((network) => [network.bridge, network]));
  return new Map(
    (record?.attachments ?? [])
      .filter(({ phase }) => phase === "attached")
      .map((one) => [
        one.path,
        {
          record: store.path,
          name: one.interface,
          addresses: one.addresses,
          gateways: (networks.get(one.bridge)?.gateways ?? [])
            .map((gateway) => addressOf(gateway))
            .filter((gateway) => one.addresses.some((cidr) => familyOf(cidr) === familyOf(gateway))),
          network: one.bridge,
        },
      ]),
  );
}

function ofAttachments(node: NetworkNamespace): RecordedNat[] {
  const store = new AttachmentStore(node);
  const { networks, attachments } = store.read();
  return networks.flatMap((network) => {
    if (!BACKENDS[network.backend].translates) return [];
    const sharing = attachments.filter(({ bridge }) => bridge === network.bridge);
    return [{ record: store.path, backend: network.backend, intent: natIntentOf(network, sharing) }];
  });
}

function ofPlugin(node: NetworkNamespace): RecordedNat[] {
  const memory = new GenerationMemory(node);
  return memory.findings().flatMap((finding) => {
    const wants = readWants(finding);
    const intent = wants === undefined ? undefined : networkIntent(wants);
    if (wants === undefined || intent === undefined) return [];
    return [{ record: memory.path, backend: wants.backend, intent }];
  });
}
