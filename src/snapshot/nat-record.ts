/** What we remember to have installed: says of a rule that is missing that it was there, and what it was. */
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { AttachmentStore } from "../attachment/store.ts";
import { natIntentOf } from "../attachment/translation.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { LINK_LOCAL, normalizeIntent, ownerName, type Translation } from "../nat/intent.ts";
import type { Gaps } from "./namespace.ts";
import type { RecordedNat } from "./snapshot.ts";

/** Where the CNI plugin notes the rules that it has seen in order, a file a network (src/cni/network-nat.ts). */
const CNI_NOTES = "/run/wayout/cni";

/** Of this very namespace: the records of others lie beside them. */
export function readNatRecords(node: NetworkNamespace, gaps: Gaps): RecordedNat[] {
  return [
    ...(gaps.try("node", "our record of attachments", () => ofAttachments(node)) ?? []),
    ...(gaps.try("node", CNI_NOTES, () => ofPlugin(node)) ?? []),
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
  return listed(CNI_NOTES).flatMap((name) => {
    if (!name.endsWith(".nat")) return [];
    const record = join(CNI_NOTES, name);
    const note = parseNote(readFileSync(record, "utf8"));
    if (note?.cookie !== node.cookie) return [];
    const sources = note.subnets.flatMap((cidr) => {
      const translation = note.translations.get(cidr.includes(":") ? 6 : 4);
      return translation === undefined ? [] : [{ cidr, translation }];
    });
    if (sources.length === 0) return [];
    const owner = ownerName("cni", basename(name, ".nat"));
    const families = new Set(sources.map(({ cidr }) => (cidr.includes(":") ? 6 : 4)));
    const untranslated = [
      ...sources.map(({ cidr }) => cidr),
      ...[...families].map((family) => LINK_LOCAL[family]),
      ...note.nonMasqueradeCidrs,
    ];
    return [{ record, backend: "nftables", intent: normalizeIntent({ owner, sources, untranslated }) }];
  });
}

function listed(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

interface Note {
  readonly cookie: string;
  readonly translations: ReadonlyMap<number, Translation>;
  readonly nonMasqueradeCidrs: readonly string[];
  readonly subnets: readonly string[];
}

/** The first line is what the network wants. A note of another version is no note. */
function parseNote(text: string): Note | undefined {
  try {
    const [cookie, translations, nonMasqueradeCidrs, subnets] = JSON.parse(text.split("\n")[0] ?? "") as [
      string,
      [number, Translation][],
      string[],
      string[],
    ];
    return { cookie, translations: new Map(translations), nonMasqueradeCidrs, subnets };
  } catch {
    return undefined;
  }
}
