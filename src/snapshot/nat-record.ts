/** What we remember to have installed: says of a rule that is missing that it was there, and what it was. */
import { AttachmentStore } from "../attachment/store.ts";
import { natIntentOf } from "../attachment/translation.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { GenerationMemory } from "../nat/generation-memory.ts";
import { networkIntent } from "../nat/network-intent.ts";
import { readWants } from "../nat/network-wants.ts";
import type { Gaps } from "./namespace.ts";
import type { RecordedNat } from "./snapshot.ts";

/** Of this very namespace: the records of others lie beside them. */
export function readNatRecords(node: NetworkNamespace, gaps: Gaps): RecordedNat[] {
  return [
    ...(gaps.try("node", "our record of attachments", () => ofAttachments(node)) ?? []),
    ...(gaps.try("node", "our record of networks", () => ofPlugin(node)) ?? []),
  ];
}

function ofAttachments(node: NetworkNamespace): RecordedNat[] {
  const store = new AttachmentStore(node);
  const { networks, attachments } = store.read();
  return networks.flatMap((network) => {
    if (network.backend === "none") return [];
    const sharing = attachments.filter(({ bridge }) => bridge === network.bridge);
    return [{ record: store.path, backend: network.backend, intent: natIntentOf(network, sharing) }];
  });
}

function ofPlugin(node: NetworkNamespace): RecordedNat[] {
  const memory = new GenerationMemory(node);
  return memory.findings().flatMap((finding) => {
    const wants = readWants(finding);
    const intent = wants === undefined ? undefined : networkIntent(wants);
    return intent === undefined ? [] : [{ record: memory.path, backend: "nftables" as const, intent }];
  });
}
