/**
 * What the kernel does not announce is compared: rules of iptables-legacy, and the settings that decide about a path but
 * forwarding and rp_filter.
 */
import { legacyFingerprint } from "../kernel/iptables-legacy/fingerprint.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { readSysctl } from "../kernel/sysctl.ts";
import { SYSCTLS } from "../snapshot/namespace.ts";
import type { NodeEvent } from "./node-events.ts";

const LEGACY_EVERY_MS = 500;
/** A table of many thousand rules takes milliseconds to read: it is read less often then. */
const LEGACY_REST = 100;
const SYSCTLS_EVERY_MS = 500;

/** Announced (RTM_NEWNETCONF), or changing by itself. */
const NOT_COMPARED = /forwarding$|ip_forward$|rp_filter$|nf_conntrack_count$/;
const COMPARED = SYSCTLS.filter((name) => !NOT_COMPARED.test(name));

export class Unannounced {
  #legacy: bigint | undefined;
  #legacyChanges = 0;
  readonly #sysctls = new Map<string, string>();
  readonly #timers: ReturnType<typeof setInterval>[] = [];
  #legacyTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly node: NetworkNamespace,
    private readonly each: (event: NodeEvent) => void,
  ) {
    this.#legacy = this.#fingerprint();
    this.#readSysctls();
    this.#lookAtLegacy(LEGACY_EVERY_MS);
    this.#timers.push(setInterval(() => this.#compareSysctls(), SYSCTLS_EVERY_MS));
  }

  /** Grows with every change of rules of iptables-legacy. */
  get legacyChanges(): number {
    return this.#legacyChanges;
  }

  /** What the agent itself changed is no news. */
  renew(): void {
    this.#legacy = this.#fingerprint();
    this.#readSysctls();
  }

  close(): void {
    clearTimeout(this.#legacyTimer);
    for (const timer of this.#timers) clearInterval(timer);
  }

  #lookAtLegacy(inMs: number): void {
    this.#legacyTimer = setTimeout(() => {
      const began = performance.now();
      const now = this.#fingerprint();
      const took = performance.now() - began;
      this.#lookAtLegacy(Math.max(LEGACY_EVERY_MS, took * LEGACY_REST));
      if (now === this.#legacy) return;
      this.#legacy = now;
      this.#legacyChanges++;
      this.each({ kind: "legacy" });
    }, inMs);
  }

  #fingerprint(): bigint | undefined {
    try {
      return legacyFingerprint(this.node);
    } catch {
      // It is changed at this moment, or goes away: the next look tells.
      return this.#legacy;
    }
  }

  #compareSysctls(): void {
    const before = new Map(this.#sysctls);
    this.#readSysctls();
    for (const [name, value] of this.#sysctls) {
      const was = before.get(name);
      if (was !== undefined && was !== value) this.each({ kind: "sysctl", name, before: was, value });
    }
  }

  #readSysctls(): void {
    this.node.run(() => {
      for (const name of COMPARED) {
        const value = readable(name);
        if (value !== undefined) this.#sysctls.set(name, value);
      }
    });
  }
}

function readable(name: string): string | undefined {
  try {
    return readSysctl(undefined, name);
  } catch {
    return undefined;
  }
}
