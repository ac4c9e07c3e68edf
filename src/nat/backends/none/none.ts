import type { NatBackend, NatChange, NatDrift } from "../../backend.ts";
import { normalizeIntent, type NatIntent } from "../../intent.ts";

/**
 * Something else translates: a cloud's NAT gateway, an eBPF program, a router that knows the pods' networks. An intent
 * is checked as elsewhere; nothing is written, nothing is ever missing.
 */
export class NoNat implements NatBackend {
  readonly name = "none";

  apply(intent: NatIntent): NatChange {
    normalizeIntent(intent);
    return { changed: false, drifts: [] };
  }

  verify(intent: NatIntent): NatDrift[] {
    normalizeIntent(intent);
    return [];
  }

  remove(): boolean {
    return false;
  }

  intents(): NatIntent[] {
    return [];
  }

  describe(intent: NatIntent): string {
    normalizeIntent(intent);
    return "";
  }

  [Symbol.dispose](): void {}
}
