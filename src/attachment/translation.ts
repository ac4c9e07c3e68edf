/** What a bridge with its attachments wants of NAT. */
import { addressOf, ipFamily } from "../address/ip.ts";
import { masqueradeIntent, normalizeIntent, type NatIntent } from "../nat/intent.ts";
import { bridgeOwner } from "../naming/names.ts";
import type { AttachmentRecord, NetworkRecord } from "./record.ts";

/**
 * Everybody on the bridge goes out by MASQUERADE; who asked for fixed addresses has a more specific source of his own.
 * The bridge's own subnets keep seeing real sources.
 */
export function natIntentOf(network: NetworkRecord, attachments: readonly AttachmentRecord[]): NatIntent {
  const base = masqueradeIntent(bridgeOwner(network.bridge), network.subnets);
  const fixed = attachments.flatMap(({ addresses, snat }) =>
    snat.map((outside) => {
      const inside = addresses
        .map((text) => addressOf(text))
        .find((own) => ipFamily(own) === ipFamily(outside))!;
      const translation = { snat: { first: outside, last: outside }, fullyRandom: true };
      return { cidr: inside, translation };
    }),
  );
  return normalizeIntent({ ...base, sources: [...base.sources, ...fixed] });
}
