/** Every check, in the order of the checklist: cheap before dear, near before far. */
import type { Check } from "../check.ts";
import { bridge } from "./bridge.ts";
import { conntrack } from "./conntrack.ts";
import { dns } from "./dns.ts";
import { filter } from "./filter.ts";
import { forwarding } from "./forwarding.ts";
import { gateway } from "./gateway.ts";
import { housekeeping } from "./housekeeping.ts";
import { nat } from "./nat.ts";
import { networkPlugins } from "./network-plugins.ts";
import { nodeRoute } from "./node-route.ts";
import { podAddress } from "./pod-address.ts";
import { podLink } from "./pod-link.ts";
import { podRoute } from "./pod-route.ts";
import { reversePath } from "./reverse-path.ts";
import { sizes } from "./sizes.ts";
import { trackedFlows } from "./tracked-flows.ts";

export const CHECKS: readonly Check[] = [
  podLink,
  podAddress,
  podRoute,
  gateway,
  bridge,
  forwarding,
  nodeRoute,
  reversePath,
  filter,
  nat,
  conntrack,
  trackedFlows,
  sizes,
  dns,
  housekeeping,
  networkPlugins,
];
