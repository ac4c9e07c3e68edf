import type { Wire } from "../netlink/wire.ts";

/** No hash bucket of a sane table holds more entries than this. */
const TAIL = 64;
/** A repeated bucket may begin with entries that are newer than the interruption. */
const NEWCOMERS = 8;

/**
 * Notices entries that one dump hands over twice. The kernel remembers the entry at which a datagram was full; when
 * that one is gone at the next read, it begins the hash bucket again (ctnetlink_dump_table), so that the end of the
 * last datagram comes once more at the beginning of the next.
 */
export class RepeatGuard {
  #wire: Wire | undefined;
  #tail = new Float64Array(TAIL);
  #current = new Float64Array(TAIL);
  #count = 0;
  #tailLength = 0;
  #checks = 0;

  /** Whether the entry with this key (EntryScan.key), which came in this datagram, has not been there yet. */
  isNew(wire: Wire, key: number): boolean {
    if (wire !== this.#wire) this.#nextDatagram(wire);
    if (this.#checks > 0) {
      this.#checks--;
      for (let i = 0; i < this.#tailLength; i++) {
        if (this.#tail[i] === key) {
          this.#checks = NEWCOMERS;
          return false;
        }
      }
    }
    this.#current[this.#count++ & (TAIL - 1)] = key;
    return true;
  }

  #nextDatagram(wire: Wire): void {
    this.#wire = wire;
    [this.#tail, this.#current] = [this.#current, this.#tail];
    this.#tailLength = Math.min(this.#count, TAIL);
    this.#checks = this.#tailLength === 0 ? 0 : NEWCOMERS;
    this.#count = 0;
  }
}
