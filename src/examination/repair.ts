/** Carries out what the doctor proposes, where it is ours to mend: settings, links, addresses, our own table. */
import { familyOf, DEFAULT_CIDR } from "../address/ip.ts";
import { parseCidr } from "../address/cidr.ts";
import { WayoutError } from "../error.ts";
import type { FlowToForget, Repair } from "../doctor/remedy/repair.ts";
import { Conntrack } from "../kernel/conntrack/conntrack.ts";
import { protocolNumber } from "../linux/ip-protocol.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { writeSysctl } from "../kernel/sysctl.ts";
import { masqueradeIntent } from "../nat/intent.ts";
import { applyAndSettle } from "../nat/settle-flows.ts";
import { openNat } from "../nat/open.ts";
import { DEFAULT_BACKEND } from "../nat/backends/backends.ts";
import { present } from "../present.ts";

/** The namespaces that a repair may touch. */
export interface RepairPlaces {
  readonly node: NetworkNamespace;
  readonly pod: NetworkNamespace;
}

/** Owner of the rules that the doctor installs. */
export const DOCTOR_OWNER = "doctor";

/**
 * Makes one change. It is idempotent: what is so already stays.
 * @throws WayoutError, NetlinkError in the kernel's own words
 */
export function carryOut(repair: Repair, places: RepairPlaces): void {
  switch (repair.kind) {
    case "sysctl":
      writeSysctl(places[repair.place], repair.name, repair.value);
      return;
    case "link-up":
      inNamespace(places[repair.place], (route) => route.setLink(repair.link, { up: true }));
      return;
    case "enslave":
      inNamespace(places.node, (route) =>
        route.setLink(repair.link, { master: indexOf(route, repair.bridge) }),
      );
      return;
    case "add-address":
      inNamespace(places[repair.place], (route) => addAddress(route, repair.link, repair.address));
      return;
    case "add-default-route":
      inNamespace(places[repair.place], (route) =>
        route.replaceRoute(
          present({
            destination: DEFAULT_CIDR[familyOf(repair.gateway)],
            gateway: repair.gateway,
            interface: indexOf(route, repair.link),
            preferredSource: repair.source,
          }),
        ),
      );
      return;
    case "masquerade": {
      using nat = openNat(DEFAULT_BACKEND, places.node);
      applyAndSettle(nat, places.node, masqueradeIntent(DOCTOR_OWNER, [repair.cidr]));
      return;
    }
    case "restore-nat": {
      using nat = openNat(repair.backend, places.node);
      applyAndSettle(nat, places.node, repair.intent);
      return;
    }
    case "forget-flows":
      forgetFlows(places.node, repair.flow);
  }
}

function inNamespace(namespace: NetworkNamespace, change: (route: Rtnetlink) => void): void {
  using route = Rtnetlink.open(namespace);
  change(route);
}

function forgetFlows(node: NetworkNamespace, flow: FlowToForget): void {
  const protocol = protocolNumber(flow.protocol);
  if (protocol === undefined) return;
  using table = Conntrack.open(node);
  table.flush({
    protocol,
    original: present({
      source: flow.source,
      destination: flow.destination,
      destinationPort: flow.destinationPort === 0 ? undefined : flow.destinationPort,
    }),
  });
}

function addAddress(route: Rtnetlink, link: string, cidr: string): void {
  const { family, address, prefixLength } = parseCidr(cidr, "keep");
  const index = indexOf(route, link);
  if (route.addresses({ interface: index }).some((one) => one.address === address)) return;
  route.addAddress({
    interface: index,
    address,
    prefixLength,
    nodad: family === 6,
  });
}

function indexOf(route: Rtnetlink, name: string): number {
  const link = route.link(name);
  if (link !== undefined) return link.index;
  throw new WayoutError({
    code: "interface-missing",
    kind: "broken",
    doing: `mending ${name}`,
    said: "there is no such interface any more",
  });
}
