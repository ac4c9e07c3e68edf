/** What the chapters measure with. */
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { PacketTap, type CapturedPacket } from "../kernel/packet-socket.ts";
import type { PacketFilter } from "../linux/packet/filter.ts";
import { PLAN } from "./plan.ts";
import type { StoryEvidence } from "./story.ts";
import { visitFrom, type Visit } from "./visit.ts";

/**
 * How long a visitor waits for each step. The lab answers within a millisecond or never: a visit that shall fail need not
 * take long, and one that shall succeed may take as long as a slow machine needs.
 */
export const TIMEOUT_MS = { "shall fail": 400, "shall succeed": 15_000 } as const;

/** `curl http://api.github.com`, from inside a namespace. */
export function visitSite(
  namespace: NetworkNamespace,
  outcome: keyof typeof TIMEOUT_MS,
  family: 4 | 6 = 4,
): Visit {
  return visitFrom(namespace, {
    host: PLAN.internet.site,
    family,
    resolver: family === 4 ? PLAN.internet.dnsIpv4 : PLAN.internet.dnsIpv6,
    timeoutMs: TIMEOUT_MS[outcome],
  });
}

/** What a visit came to, in words. */
export function visitText(visit: Visit): string {
  if (visit.answer !== undefined) {
    return `an answer after ${visit.tookMs.toFixed(0)} ms; the server saw ${visit.answer.seen.address}`;
  }
  const step = { dns: "DNS did not answer", connect: "no connection", answer: "no answer" };
  return `${step[visit.failure!.step]}: ${visit.failure!.said}`;
}

/** Runs `action` while listening on interfaces of a namespace; returns its result and what passed on each. */
export function listening<T>(
  namespace: NetworkNamespace,
  interfaces: readonly string[],
  filter: PacketFilter,
  action: () => T,
): { readonly result: T; readonly seen: Readonly<Record<string, readonly CapturedPacket[]>> } {
  using tap = PacketTap.open(namespace, { interfaces, filter });
  const result = action();
  const packets = tap.read();
  return {
    result,
    seen: Object.fromEntries(
      interfaces.map((name) => [name, packets.filter((packet) => packet.interface === name)]),
    ),
  };
}

/** The first packets seen on an interface, or that there were none. */
export function captureEvidence(name: string, packets: readonly CapturedPacket[], most = 2): StoryEvidence {
  const lines = packets.slice(0, most).map((packet) => packet.summary);
  if (packets.length > most) lines.push(`… and ${packets.length - most} more`);
  return { source: `capture on ${name}`, lines: lines.length === 0 ? ["nothing was seen"] : lines };
}
