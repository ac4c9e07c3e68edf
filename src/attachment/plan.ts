/** Decides everything about one attachment before anything is touched, from the node, the namespace and our records. */
import { DEFAULT_BACKEND } from "../nat/backends/backends.ts";
import { readFileSync } from "node:fs";
import { cidrOf, cidrText, hostRange, parseCidr } from "../address/cidr.ts";
import { familyOf, ipFromNumber, type IpFamily, prefixFamily, DEFAULT_CIDR } from "../address/ip.ts";
import { WayoutError } from "../error.ts";
import type { Link } from "../linux/route/link.ts";
import type { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { readSysctl } from "../kernel/sysctl.ts";
import { configuredSubnets } from "./configured.ts";
import { checkAddressesUsed, chooseAddress, givenByHand } from "./address-choice.ts";
import { DEFAULT_BRIDGE, DEFAULT_INTERFACE, pathOfLabel, type AttachRequest } from "./request.ts";
import type { AttachmentRecord, NetworkRecord, NodeRecord } from "./record.ts";
import { requireFree, freeSubnet, occupiedPrefixes } from "./subnet.ts";
import { hostVethName } from "../naming/names.ts";
import { present } from "../present.ts";

export interface Plan {
  readonly network: NetworkRecord;
  readonly attachment: AttachmentRecord;
  /** What the person should know although nothing is wrong. */
  readonly notes: readonly string[];
}

/** @throws WayoutError when the node, the bridge or the records do not allow what is asked */
export function planAttachment(request: AttachRequest, record: NodeRecord, node: Rtnetlink): Plan {
  const doing = `attaching ${request.namespace}`;
  const bridge = request.bridge ?? DEFAULT_BRIDGE;
  const known = record.networks.find((network) => network.bridge === bridge);
  const network = known ?? planNetwork(request, record, node, bridge, doing);
  if (known !== undefined) checkAgainstNetwork(request, known, doing);
  const notes: string[] = [];
  const addresses: string[] = [];
  const lastGiven = { ...network.lastGiven };
  for (const subnet of network.subnets.map((text) => parseCidr(text))) {
    if (subnet.family === 6 && request.ipv6 === false) continue;
    const address = chooseAddress(request, record, network, node, subnet, doing);
    addresses.push(`${address}/${subnet.prefixLength}`);
    if (!givenByHand(request, subnet.family)) lastGiven[cidrText(subnet)] = address;
  }
  checkAddressesUsed(request, network, addresses, doing);
  const snat = request.snat ?? [];
  for (const address of snat) {
    if (node.addresses().some((own) => own.address === address)) continue;
    notes.push(
      `${address} is no address of this node: answers come back only if the network outside routes it here`,
    );
  }
  const label = request.namespace;
  return {
    network: { ...network, lastGiven },
    attachment: {
      label,
      path: pathOfLabel(label),
      created: false,
      madeDirectory: false,
      phase: "attaching",
      bridge,
      interface: request.interfaceName ?? DEFAULT_INTERFACE,
      hostInterface: hostVethName(bridge, label, request.interfaceName ?? DEFAULT_INTERFACE),
      addresses,
      snat: [...snat],
      raisedLoopback: false,
      since: new Date().toISOString(),
    },
    notes,
  };
}

function planNetwork(
  request: AttachRequest,
  record: NodeRecord,
  node: Rtnetlink,
  bridge: string,
  doing: string,
): NetworkRecord {
  const link = node.link(bridge);
  if (link !== undefined && link.kind !== "bridge") {
    throw new WayoutError({
      code: "not-a-bridge",
      kind: "usage",
      doing,
      said: `${bridge} is ${link.kind === undefined ? "an interface" : `a ${link.kind} interface`}, not a bridge`,
      todo: "Name a bridge, or a name that is free: --bridge wayout1",
      details: { interface: bridge, kind: link.kind ?? null },
    });
  }
  const gateways: string[] = [];
  const addedGateways: string[] = [];
  for (const family of familiesWanted(request, node, link)) {
    const wanted = request.subnets?.find((text) => prefixFamily(text) === family);
    const there = link === undefined ? undefined : bridgeAddress(node, link, family, wanted);
    const gateway = there ?? newGateway(node, record, link, family, wanted, bridge, doing);
    gateways.push(gateway);
    if (there === undefined) addedGateways.push(gateway);
  }
  return present({
    bridge,
    gateways,
    addedGateways,
    subnets: gateways.map((text) => cidrText(parseCidr(text, "keep"))),
    backend: request.backend ?? DEFAULT_BACKEND,
    lastGiven: {},
    before: link === undefined ? undefined : bridgeBefore(node, link),
  });
}

/** The setting that a bridge of ours must have at 0 (see ensureBridge). */
export function acceptRaOf(bridge: string): string {
  return `net.ipv6.conf.${bridge}.accept_ra`;
}

function bridgeBefore(node: Rtnetlink, link: Link): NonNullable<NetworkRecord["before"]> {
  const acceptRa = readSysctl(node.namespace, acceptRaOf(link.name));
  return present({ up: link.up, acceptRa });
}

/** IPv6 is given where it leads somewhere: a namespace with IPv6 and no way out tries it first and waits in vain. */
function familiesWanted(request: AttachRequest, node: Rtnetlink, bridge: Link | undefined): IpFamily[] {
  const asked = (request.subnets ?? []).map((text) => prefixFamily(text));
  const ipv6 =
    request.ipv6 ??
    (asked.includes(6) ||
      hasDefaultRoute(node, 6) ||
      (bridge !== undefined && bridgeAddress(node, bridge, 6, undefined) !== undefined));
  return ipv6 ? [4, 6] : [4];
}

export function hasDefaultRoute(namespace: Rtnetlink, family: IpFamily): boolean {
  const everything = DEFAULT_CIDR[family];
  return namespace
    .routes({ family })
    .some((route) => route.destination === everything && route.type === "unicast");
}

/** The address, with prefix, that a bridge has in the subnet; in any when none is named. */
function bridgeAddress(
  node: Rtnetlink,
  bridge: Link,
  family: IpFamily,
  subnet: string | undefined,
): string | undefined {
  const own = node
    .addresses({ family, interface: bridge.index })
    .filter((address) => address.scope === "global");
  const found = own.find(
    ({ address, prefixLength }) => subnet === undefined || cidrText(cidrOf(address, prefixLength)) === subnet,
  );
  return found === undefined ? undefined : `${found.address}/${found.prefixLength}`;
}

function newGateway(
  node: Rtnetlink,
  record: NodeRecord,
  bridge: Link | undefined,
  family: IpFamily,
  wanted: string | undefined,
  name: string,
  doing: string,
): string {
  const occupied = [...occupiedPrefixes(node, bridge?.index), ...configuredSubnets()];
  for (const network of record.networks) {
    // Whatever became of the other bridges' routes meanwhile, their subnets are given away.
    for (const text of network.subnets)
      occupied.push({ cidr: parseCidr(text), by: `the network ${network.bridge}` });
  }
  const subnet = parseCidr(wanted ?? freeSubnet(family, occupied, `${machineId()} ${name}`));
  requireFree(subnet, occupied, doing);
  const range = hostRange(subnet);
  if (range.last - range.first < 1n) {
    throw new WayoutError({
      code: "subnet-too-small",
      kind: "usage",
      doing,
      said: `the subnet ${cidrText(subnet)} has no room for a gateway and a namespace`,
      todo: "Take at least a /30 (IPv4) or a /126 (IPv6).",
    });
  }
  return `${ipFromNumber(family, range.first)}/${subnet.prefixLength}`;
}

/** Stable on this machine; hashed with a text of our own before it is used, as machine-id(5) asks. */
function machineId(): string {
  try {
    return readFileSync("/etc/machine-id", "utf8").trim();
  } catch {
    return "";
  }
}

/** An attachment joins a network as it is; it cannot change it for those who are there. */
function checkAgainstNetwork(request: AttachRequest, network: NetworkRecord, doing: string): void {
  const differs = (flag: string, asked: string, is: string): never => {
    throw new WayoutError({
      code: "network-differs",
      kind: "usage",
      doing,
      said: `${flag} asks for ${asked}, but ${network.bridge} has ${is} since its first attachment`,
      todo: `Leave ${flag} out, or take another bridge: --bridge ${network.bridge === DEFAULT_BRIDGE ? "wayout1" : DEFAULT_BRIDGE}`,
      details: { bridge: network.bridge, subnets: network.subnets, backend: network.backend },
    });
  };
  for (const subnet of request.subnets ?? []) {
    if (!network.subnets.includes(subnet)) differs("--subnet", subnet, network.subnets.join(" and "));
  }
  if (request.backend !== undefined && request.backend !== network.backend) {
    differs("--backend", request.backend, network.backend);
  }
  if (request.ipv6 === true && !network.subnets.some((subnet) => familyOf(subnet) === 6)) {
    differs("--ipv6", "IPv6", `only ${network.subnets.join(" and ")}`);
  }
}
