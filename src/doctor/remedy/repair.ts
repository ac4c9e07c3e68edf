import type { NatBackendName } from "../../nat/backends/backends.ts";
import type { NatIntent } from "../../nat/intent.ts";

/** A change of ours that mends it, as plain data; carried out by src/examination with no other program. */
export type Repair =
  | { readonly kind: "sysctl"; readonly place: RepairPlace; readonly name: string; readonly value: string }
  | { readonly kind: "link-up"; readonly place: RepairPlace; readonly link: string }
  | { readonly kind: "enslave"; readonly link: string; readonly bridge: string }
  | {
      readonly kind: "add-address";
      readonly place: RepairPlace;
      readonly link: string;
      /** With prefix length. */
      readonly address: string;
    }
  | {
      readonly kind: "add-default-route";
      readonly place: RepairPlace;
      readonly gateway: string;
      readonly link: string;
      /** Preferred source; the kernel's choice when absent. */
      readonly source?: string;
    }
  | { readonly kind: "masquerade"; readonly cidr: string }
  | { readonly kind: "restore-nat"; readonly backend: NatBackendName; readonly intent: NatIntent }
  | { readonly kind: "forget-flows"; readonly flow: FlowToForget };

/** Tracked flows of one source to one destination. */
export interface FlowToForget {
  /** `udp`, `tcp`, `icmp`, … */
  readonly protocol: string;
  readonly source: string;
  readonly destination: string;
  /** 0 for protocols without ports. */
  readonly destinationPort: number;
}

/** The node's namespace, or the pod's. */
export type RepairPlace = "node" | "pod";
