/** What we remember to have installed: says of a rule that is missing that it was there, and what it was. */
import { AttachmentStore } from "../attachment/store.ts";
import { natIntentOf } from "../attachment/translation.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { GenerationMemory } from "../nat/generation-memory.ts";
import { LINK_LOCAL, normalizeIntent } from "../nat/intent.ts";
import { readWants } from "../nat/network-wants.ts";
import { ownerName } from "../nat/owner-name.ts";
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
    if (wants === undefined) return [];
    const sources = wants.subnets.flatMap((cidr) => {
      const translation = wants.translations.get(cidr.includes(":") ? 6 : 4);
      return translation === undefined ? [] : [{ cidr, translation }];
    });
    if (sources.length === 0) return [];
    const owner = ownerName("cni", wants.network);
    const families = new Set(sources.map(({ cidr }) => (cidr.includes(":") ? 6 : 4)));
    const untranslated = [
      ...sources.map(({ cidr }) => cidr),
      ...[...families].map((family) => LINK_LOCAL[family]),
      ...wants.nonMasqueradeCidrs,
    ];
    return [
      { record: memory.path, backend: "nftables", intent: normalizeIntent({ owner, sources, untranslated }) },
    ];
  });
}
