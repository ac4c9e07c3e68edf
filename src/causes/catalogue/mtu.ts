/** What can be wrong with: sizes. */
import type { CatalogueEntry } from "../steps.ts";
import { NO_POD_LINK } from "./hides.ts";

export const MTU = {
  "mtu-too-large": {
    step: "mtu",
    title: "the pod's MTU is larger than the path's",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: ["rule-captures", "route-captures", ...NO_POD_LINK, "mtu-black-hole"],
    about: "Large packets need “fragmentation needed” messages to come back to the pod.",
  },
  "mtu-learned-small": {
    step: "mtu",
    title: "the pod was told that the way takes only very small packets",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: ["mtu-black-hole"],
    about:
      "“Fragmentation needed” makes an exception in the route cache of the pod's kernel, for ten minutes (`ip route get` shows `expires … mtu`). It outlives the link that it was about, and nobody checks who sent it.",
  },
  "mtu-black-hole": {
    step: "mtu",
    title: "small packets pass and large ones are lost, and no message tells the pod",
    severity: "error",
    stopsTraffic: true,
    dependsOn: NO_POD_LINK,
    about:
      "A router that cannot pass a large packet on says “fragmentation needed” (IPv6: “packet too big”) to its sender. Where that message is dropped, requests work and transfers hang. A rule on the node that drops it is found in the tables; one elsewhere by pings of several sizes, which are only sent with --to.",
  },
  "checksum-errors": {
    step: "mtu",
    title: "packets with wrong checksums arrive while the doctor looks",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: ["rule-captures", "route-captures"],
    about:
      "The checksum was left to the hardware (checksum offload), and a veth or vxlan link has none that completes it.",
  },
} as const satisfies Readonly<Record<string, CatalogueEntry>>;
