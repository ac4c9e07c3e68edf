/**
 * A pod's way out, in one call: bridge, forwarding, NAT, and last the pod's own link. What belongs to the node is made
 * first and is left when a later step fails: other pods may use it by then. The link is made whole or not at all.
 */
import type { IpFamily } from "../address/ip.ts";
import { enableForwarding, type SettingChange } from "../forwarding/forwarding.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import type { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import type { NatBackend, NatChange } from "../nat/backend.ts";
import type { NatIntent } from "../nat/intent.ts";
import { applyAndSettle } from "../nat/settle-flows.ts";
import { ensureBridge, type BridgeIntent, type EnsuredBridge } from "../network/bridge.ts";
import { connectPod, type PodLink, type PodLinkIntent } from "../network/pod-link.ts";

export interface WayOutIntent {
  readonly bridge: BridgeIntent;
  /** The bridge's index is filled in. */
  readonly link: Omit<PodLinkIntent, "bridge">;
  /** Families that the node must forward; empty for a layer 2 network. */
  readonly forward: readonly IpFamily[];
  /** Absent: the pod's addresses are routed outside as they are. */
  readonly nat?: { readonly backend: NatBackend; readonly intent: NatIntent };
}

export interface WayOut {
  readonly bridge: EnsuredBridge;
  /** Settings that had to be changed. */
  readonly forwarding: readonly SettingChange[];
  readonly nat: NatChange;
  readonly link: PodLink;
}

/**
 * @param node rtnetlink in the node's namespace
 * @param nodeNamespace the same namespace, for its settings and its tracked flows
 * @throws WayoutError of the step that failed
 */
export function openWayOut(
  node: Rtnetlink,
  nodeNamespace: NetworkNamespace,
  pod: NetworkNamespace,
  intent: WayOutIntent,
): WayOut {
  const bridge = ensureBridge(node, intent.bridge);
  const forwarding =
    intent.forward.length === 0
      ? []
      : enableForwarding(nodeNamespace, {
          ipv4: intent.forward.includes(4),
          ipv6: intent.forward.includes(6),
        });
  const nat =
    intent.nat === undefined
      ? { changed: false, drifts: [] }
      : applyAndSettle(intent.nat.backend, nodeNamespace, intent.nat.intent);
  const link = connectPod(node, pod, { ...intent.link, bridge: bridge.link.index });
  return { bridge, forwarding, nat, link };
}
