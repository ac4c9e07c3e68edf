/**
 * For how long packets may take the short way, in memory that the programs read (program/fast.h). It is granted by who has
 * looked at everything, for a second, and is void at once when something was heard of that he does not know yet: whoever
 * hears of it counts on, and asks nobody.
 */
import { BpfMap } from "../../../kernel/bpf/map.ts";
import { sharedMemoryOf, type SharedMemory } from "../../../kernel/bpf/shared-memory.ts";
import type { NetworkNamespace } from "../../../kernel/namespace.ts";
import { namespaceDirectory } from "./bpf-directory.ts";
import { FAST_PATH } from "./layout.ts";
import { programClock } from "./maps.ts";

/** A lease that nobody renews ends by itself: an agent that was killed, or is stuck. */
export const LEASE_MS = 1_000;
/** So far behind the programs' clock may be: it moves with the kernel's tick. */
const COARSE_MS = 20;
const WORD_BYTES = 8;

export class Lease implements Disposable {
  readonly #memory: SharedMemory;

  constructor(map: BpfMap) {
    this.#memory = sharedMemoryOf(map);
  }

  /** undefined where there are no programs of ours that know of it. */
  static of(namespace: NetworkNamespace): Lease | undefined {
    const directory = namespaceDirectory(namespace);
    using map = directory === undefined ? undefined : BpfMap.pinned(`${directory}/leases`, "leases");
    return map === undefined || map.definition.valueBytes !== FAST_PATH.leaseBytes
      ? undefined
      : new Lease(map);
  }

  /** How many events were heard of. */
  get turn(): bigint {
    return Atomics.load(this.#memory.words, at("turn", "turn"));
  }

  /** Where that number lies, for the thread that counts. */
  get turnAddress(): number {
    return this.#memory.address + at("turn", "turn") * WORD_BYTES;
  }

  /** Void for what is known up to now. */
  revoke(): void {
    Atomics.add(this.#memory.words, at("turn", "turn"), 1n);
  }

  /** @param turn what the look was begun with */
  grant(turn: bigint, uplinks: readonly number[]): void {
    const { words } = this.#memory;
    const links = new Uint32Array(words.buffer, at("granted", "uplinks") * WORD_BYTES, FAST_PATH.mostUplinks);
    for (const index of links.keys()) Atomics.store(links, index, uplinks[index] ?? 0);
    Atomics.store(words, at("granted", "turn"), turn);
    Atomics.store(words, at("granted", "until"), BigInt(programClock() + LEASE_MS * 1e6));
  }

  /** Looked, and found that it may not be. */
  refuse(): void {
    Atomics.store(this.#memory.words, at("granted", "until"), BigInt(programClock() - COARSE_MS * 1e6));
  }

  /** Everything goes the long way for so long, or for longer where another wants it. Returns until when. */
  holdOff(ms: number): bigint {
    const until = BigInt(programClock() + ms * 1e6);
    const { words } = this.#memory;
    if (words[at("heldOff", "until")]! < until) Atomics.store(words, at("heldOff", "until"), until);
    return until;
  }

  /** Unless another holds it off for longer. */
  endHoldOff(until: bigint): void {
    Atomics.compareExchange(this.#memory.words, at("heldOff", "until"), until, 0n);
  }

  /** `kept`: an agent would grant it, and has found what forbids it. `absent`: nobody wants it, or he is gone. */
  get state(): "valid" | "held-off" | "kept" | "absent" {
    const { words } = this.#memory;
    const now = BigInt(programClock());
    const until = words[at("granted", "until")]!;
    if (until + BigInt(LEASE_MS * 1e6) <= now) return "absent";
    if (until <= now || words[at("granted", "turn")] !== this.turn) return "kept";
    return this.isHeldOff ? "held-off" : "valid";
  }

  get isHeldOff(): boolean {
    return this.#memory.words[at("heldOff", "until")]! > BigInt(programClock());
  }

  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
  }
}

/** Index of a field among the words. */
function at(key: keyof typeof FAST_PATH.keys, field: keyof typeof FAST_PATH.lease): number {
  return (FAST_PATH.keys[key] * FAST_PATH.leaseBytes + FAST_PATH.lease[field]) / WORD_BYTES;
}
