/** How many connections are open between two addresses: what rules that limit connections count. */
import { FlowHash } from "../flows/flow-hash.ts";
import type { EntryScan } from "../linux/conntrack/scan.ts";
import { stateName } from "../linux/conntrack/status.ts";
import { protocolName } from "../linux/ip-protocol.ts";
import { ipText } from "../address/ip.ts";
import type { Rule } from "../linux/nftables/ruleset.ts";
import type { ConnectionCount, NamespaceState } from "./snapshot.ts";

/** Pairs of addresses that are told; where there are more, nothing is said of any: a part would be taken for the whole. */
const MOST_PAIRS = 8192;

/** Whether a rule asks for it: without one nothing is counted. */
export function limitsConnections({ ruleset, legacy }: NamespaceState): boolean {
  return [...(ruleset?.tables ?? []), ...legacy].some(
    (table) =>
      table.objects.some((one) => one.type === LIMIT) ||
      table.chains.some((chain) =>
        chain.rules.some(
          // Names stand in the kernel's bytes as they are.
          (rule) => rule.mayHold?.(LIMIT) !== false && rule.expressions.some(limits),
        ),
      ),
  );
}

const LIMIT = "connlimit";

function limits(one: Rule["expressions"][number]): boolean {
  if (one.kind === "dynset")
    return [one.expression, ...(one.expressions ?? [])].some((inner) => inner?.kind === LIMIT);
  return one.kind === LIMIT || (one.kind === "match" && one.name === LIMIT);
}

/** nf_conncount: connections that have ended, and only wait, do not count (already_closed). */
const ENDED: ReadonlySet<string | undefined> = new Set(["TIME_WAIT", "CLOSE"]);

type Draft = { -readonly [K in keyof ConnectionCount]: ConnectionCount[K] };

export class ConnectionTally {
  readonly #hash = new FlowHash();
  readonly #pairs = new Map<number, Draft>();

  add({ original, state, wire, family }: EntryScan): void {
    if (ENDED.has(stateName(original.protocol, state))) return;
    const key = this.#hash
      .begin()
      .word(original.protocol)
      .address(wire.view, original.source, family)
      .address(wire.view, original.destination, family).value;
    const pair = this.#pairs.get(key);
    if (pair !== undefined) {
      pair.open++;
    } else if (this.#pairs.size <= MOST_PAIRS) {
      const text = (at: number): string => ipText(wire.bytes, at, at + (family === 4 ? 4 : 16));
      this.#pairs.set(key, {
        protocol: protocolName(original.protocol),
        source: text(original.source),
        destination: text(original.destination),
        open: 1,
      });
    }
  }

  list(): ConnectionCount[] | undefined {
    return this.#pairs.size > MOST_PAIRS ? undefined : [...this.#pairs.values()];
  }
}
