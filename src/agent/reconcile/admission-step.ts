/**
 * Keeps the pods admitted through one door where the policy says so. The programs of other products take their time (firewalld's and ufw's
 * are Python), so they run beside the loop: a comparison begins one, and the next tells what it did.
 */
import { Admission } from "../../admission/admission.ts";
import type { AdmissionDoor } from "../../admission/doors.ts";
import type { NetworkNamespace } from "../../kernel/namespace.ts";
import { Nftables } from "../../kernel/nftables/nftables.ts";
import type { Desired } from "../desired.ts";
import type { ReconcileStep, Repair } from "./step.ts";

/** What nobody announces (files of ufw, a firewalld that came up) is found after so long. */
const AGAIN_MS = 60_000;

export class AdmissionStep implements ReconcileStep, Disposable {
  readonly name: string;
  readonly #admission: Admission;
  readonly #nftables: Nftables | undefined;
  #running = false;
  #work: Promise<void> = Promise.resolve();
  #repairs: Repair[] = [];
  #failure: unknown;
  /** What held when the last comparison ended well: the wish, and everybody's rules. */
  #settled = { state: "", at: Number.NEGATIVE_INFINITY };

  /**
   * @param wake the next comparison is due
   * @param unannounced a number that changes with what the kernel does not announce (iptables-legacy)
   */
  constructor(
    node: NetworkNamespace,
    private readonly door: AdmissionDoor,
    private readonly wanted: () => Desired,
    private readonly wake: () => void,
    private readonly unannounced: () => number = () => 0,
  ) {
    this.name = door;
    this.#admission = new Admission(node);
    this.#nftables = openNftables(node);
  }

  run(): Repair[] {
    this.#begin();
    if (this.#failure !== undefined) throw this.#failure;
    const repairs = this.#repairs;
    this.#repairs = [];
    return repairs;
  }

  /** When no program is at work any more. */
  idle(): Promise<void> {
    return this.#work;
  }

  [Symbol.dispose](): void {
    this.#nftables?.close();
  }

  #begin(): void {
    if (this.#running) return;
    const cidrs = this.#cidrs();
    if (cidrs.length === 0 && !this.#admission.isOpen(this.door)) return;
    // Read before: what changes meanwhile is looked at again.
    const state = this.#state();
    if (state === this.#settled.state && performance.now() - this.#settled.at < AGAIN_MS) return;
    this.#running = true;
    this.#work = this.#compare(cidrs, state);
  }

  async #compare(cidrs: readonly string[], state: string): Promise<void> {
    const failedBefore = this.#failure !== undefined;
    try {
      const changes = (await this.#admission.settle(this.door, cidrs)) ?? [];
      this.#failure = undefined;
      this.#repairs.push(...changes.map(({ object, found }) => ({ step: this.name, object, found })));
      if (changes.length === 0) this.#settled = { state, at: performance.now() };
    } catch (error) {
      this.#failure = error;
    }
    this.#running = false;
    const isNews = this.#repairs.length > 0 || (this.#failure !== undefined) !== failedBefore;
    if (isNews || this.#state() !== state) this.wake();
  }

  #cidrs(): readonly string[] {
    const { doors, cidrs } = this.wanted().admission;
    return doors.includes(this.door) ? cidrs : [];
  }

  #state(): string {
    return JSON.stringify([this.#cidrs(), this.#nftables?.generation(), this.unannounced()]);
  }
}

function openNftables(node: NetworkNamespace): Nftables | undefined {
  try {
    return Nftables.open(node);
  } catch {
    return undefined;
  }
}
