/**
 * What happens to connections that a backend of ours tracks by itself: nobody announces it, so they are looked at again and
 * again. A record outlives its last packet by its timeout, so that none comes and goes between two looks.
 */
import { monotonicMs } from "../kernel/calls.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import type { ConntrackEventKind } from "../kernel/conntrack/events.ts";
import { EntryScan } from "../linux/conntrack/scan.ts";
import { Wire } from "../linux/netlink/wire.ts";
import { scanProgramFlows } from "./program-flows.ts";
import type { CompiledFilter } from "./flow-filter.ts";

const SHORTEST_PAUSE_MS = 200;
/** A look at many takes its time: of a processor's it has at most one part in so many. */
const PART_OF_TIME = 10;

type Told = (kind: ConntrackEventKind, scan: EntryScan) => void;

interface Known {
  readonly message: Uint8Array;
  /** What an update is told of. */
  readonly condition: string;
}

export class ProgramFlowWatch {
  readonly #known = new Map<number, Known>();
  #next = 0;

  /** @param namespace the calling thread's when undefined */
  constructor(
    readonly namespace: NetworkNamespace | undefined,
    readonly filter: CompiledFilter,
  ) {
    this.#look(() => {});
  }

  get flows(): number {
    return this.#known.size;
  }

  /** How long until the next look is due. */
  get waitMs(): number {
    return Math.max(0, this.#next - monotonicMs());
  }

  /** Tells what has happened since the last look, when one is due. Returns how much. */
  next(told: Told): number {
    return this.waitMs > 0 ? 0 : this.#look(told);
  }

  #look(told: Told): number {
    const start = monotonicMs();
    const seen = new Set<number>();
    let count = 0;
    const tell: Told = (kind, scan) => {
      count++;
      told(kind, scan);
    };
    scanProgramFlows(this.namespace, (scan) => {
      const { key } = scan;
      seen.add(key);
      const known = this.#known.get(key);
      const condition = `${scan.status} ${scan.state}`;
      if (known?.condition === condition) return;
      // A filter by state knows a connection when it comes to that state, and for as long as it is there.
      if (!this.filter.matches(scan)) return;
      this.#known.set(key, { message: scan.wire.bytes.slice(scan.start, scan.end), condition });
      tell(known === undefined ? "new" : "update", scan);
    });
    const ended = new EntryScan();
    for (const [key, { message }] of this.#known) {
      if (seen.has(key)) continue;
      this.#known.delete(key);
      ended.point(new Wire(message), 0, message.length);
      tell("destroy", ended);
    }
    const now = monotonicMs();
    this.#next = now + Math.max(SHORTEST_PAUSE_MS, (now - start) * PART_OF_TIME);
    return count;
  }
}
