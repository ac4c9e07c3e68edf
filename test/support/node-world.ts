/**
 * The world that tests are about: an outside, a node with an uplink, pods behind it. What is called how, how a pod is
 * wired and who has a way back are parameters: a test that works with one set of names alone proves nothing.
 *
 *   pod net1 ── lan0 [node] up0 203.0.113.5 ── 203.0.113.1 [outside] 198.51.100.80, 2001:db8:198::80
 *
 * One `ip -batch` a namespace builds it: thousands of tests pay for each process.
 */
import { writeFileSync } from "node:fs";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { LinkRtnetlink } from "../../src/kernel/route/link-rtnetlink.ts";
import type { LinkState } from "../../src/linux/route/link-state.ts";
import { ask } from "./witness.ts";
import { freshNamespace, namespaceNamed } from "./world.ts";
import { addressOf, familyOf } from "../../src/address/ip.ts";

/** Addresses have a prefix; gateways have none. */
export interface NodeWorldPlan {
  readonly uplink: UplinkPlan;
  /** What the outside has beside its end of the uplink: the servers. */
  readonly servers?: readonly string[];
  /** Networks to which the outside has a way back, by the first address of the node in their family. */
  readonly wayBack?: readonly string[];
  readonly pods?: readonly PodPlan[];
  /** Whether the node forwards both families. */
  readonly forwards?: boolean;
  /** What the node's nf_tables hold. */
  readonly nft?: string;
  /** Names of the two namespaces, where a test reads them; otherwise they get some. */
  readonly names?: { readonly outside: string; readonly node: string };
}

export interface UplinkPlan {
  /** The node's end, and the outside's. */
  readonly name: string;
  readonly outsideName: string;
  /** In the order in which they are given; one with ` preferred_lft 0` behind it is no source by itself. */
  readonly addresses: readonly string[];
  readonly outsideAddresses: readonly string[];
  /** The node's default routes; a family without one has no way out. */
  readonly gateways: readonly string[];
  /** IPv6 neighbours know each other from the start: a new interface hears solicitations only after a second. */
  readonly knownNeighbours?: boolean;
}

export interface PodPlan {
  /** Of its namespace, where a test reads it. */
  readonly name?: string;
  /** The pod's end, and the node's. */
  readonly interface: string;
  readonly hostInterface: string;
  /**
   * `{ bridge }`: a port of it, which has the gateways' addresses, as CNI's bridge plugin makes it. `routed`: the node's
   * end has them. `ptp`: as CNI's ptp plugin makes it, single addresses at both ends.
   */
  readonly wiring: { readonly bridge: string } | "routed" | "ptp";
  readonly addresses: readonly string[];
  /** The node's addresses there. The first of a family is the pod's default route. */
  readonly gateways: readonly string[];
}

export interface NodeWorld {
  readonly outside: NetworkNamespace;
  readonly node: NetworkNamespace;
  /** In the order of the plan. */
  readonly pods: readonly NetworkNamespace[];
}

export function buildNodeWorld(plan: NodeWorldPlan): NodeWorld {
  const [outside, node] = [
    plan.names === undefined ? freshNamespace("outside") : namespaceNamed(plan.names.outside),
    plan.names === undefined ? freshNamespace("node") : namespaceNamed(plan.names.node),
  ];
  const pods = (plan.pods ?? []).map(({ name }) =>
    name === undefined ? freshNamespace("pod") : namespaceNamed(name),
  );
  for (const namespace of [outside, node, ...pods]) {
    // Detection of duplicates keeps an address tentative for a second, and so every test waiting.
    writeSettings(namespace, { "ipv6/conf/default/accept_dad": "0", "ipv6/conf/all/accept_dad": "0" });
  }
  batch(node, [
    ...uplinkLines(plan.uplink, outside),
    ...(plan.pods ?? []).flatMap((pod, index) => nodeLines(pod, pods[index]!, plan.pods!.slice(0, index))),
  ]);
  for (const [index, pod] of (plan.pods ?? []).entries()) batch(pods[index]!, podLines(pod));
  batch(outside, outsideLines(plan));
  if (plan.forwards === true) {
    writeSettings(node, { "ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1" });
  }
  for (const namespace of [outside, node, ...pods]) awaitCarriers(namespace);
  if (plan.nft !== undefined) ask(node, ["nft", "-f", "-"], plan.nft);
  return { outside, node, pods };
}

/** MAC addresses of the uplink's two ends. */
const UPLINK_MACS = ["02:00:5e:00:53:05", "02:00:5e:00:53:01"] as const;

function uplinkLines(uplink: UplinkPlan, outside: NetworkNamespace): string[] {
  const { name, outsideName, addresses, gateways } = uplink;
  const [own, other] = UPLINK_MACS;
  return [
    `link add ${name} address ${own} type veth peer name ${outsideName} address ${other} netns ${outside.name}`,
    ...given(addresses, name),
    `link set ${name} up`,
    ...gateways.map((gateway) => `route add default via ${gateway}`),
    ...neighbourLines(uplink, name, uplink.outsideAddresses, other),
  ];
}

function outsideLines({ uplink, servers = [], wayBack = [] }: NodeWorldPlan): string[] {
  const { outsideName, outsideAddresses } = uplink;
  return [
    ...outsideAddresses.map((address) => `address add ${address} dev ${outsideName}`),
    ...servers.map((server) => `address add ${server} dev lo`),
    `link set ${outsideName} up`,
    ...wayBack.map((network) => `route add ${network} via ${firstOf(uplink.addresses, network)}`),
    ...neighbourLines(uplink, outsideName, uplink.addresses, UPLINK_MACS[0]),
  ];
}

function neighbourLines(
  { knownNeighbours }: UplinkPlan,
  name: string,
  addresses: readonly string[],
  mac: string,
): string[] {
  if (knownNeighbours !== true) return [];
  return addresses
    .filter(isIpv6)
    .map((address) => `neighbour add ${addressOf(address)} lladdr ${mac} dev ${name}`);
}

/** @param before pods whose bridge is there already */
function nodeLines(
  { interface: name, hostInterface, wiring, addresses, gateways }: PodPlan,
  pod: NetworkNamespace,
  before: readonly PodPlan[],
): string[] {
  const pair = `link add ${hostInterface} type veth peer name ${name} netns ${pod.name}`;
  const up = `link set ${hostInterface} up`;
  if (wiring === "routed") return [pair, ...given(gateways, hostInterface), up];
  if (wiring === "ptp") {
    const single = gateways.map((gateway) => `${addressOf(gateway)}/${isIpv6(gateway) ? 128 : 32}`);
    return [
      pair,
      ...given(single, hostInterface),
      up,
      ...addresses.map((address) => `route add ${addressOf(address)} dev ${hostInterface}`),
    ];
  }
  const { bridge } = wiring;
  const isThere = before.some((other) => typeof other.wiring === "object" && other.wiring.bridge === bridge);
  const made = [`link add ${bridge} type bridge`, ...given(gateways, bridge), `link set ${bridge} up`];
  return [...(isThere ? [] : made), pair, `link set ${hostInterface} master ${bridge} up`];
}

function podLines({ interface: name, wiring, addresses, gateways }: PodPlan): string[] {
  const families = [false, true].flatMap((v6) => gateways.find((gateway) => isIpv6(gateway) === v6) ?? []);
  const defaults = families.map((gateway) => `route add default via ${addressOf(gateway)}`);
  const up = `link set ${name} up`;
  if (wiring !== "ptp") return [...given(addresses, name), up, ...defaults];
  const subnets = addresses.filter((address) => !isIpv6(address));
  return [
    // Without the route to the subnet: it is the node that leads to the neighbours.
    ...given(
      subnets.map((address) => `${address} noprefixroute`),
      name,
    ),
    ...given(
      addresses.filter(isIpv6).map((address) => `${addressOf(address)}/128`),
      name,
    ),
    up,
    ...families.map((gateway) => `route add ${addressOf(gateway)} dev ${name}`),
    ...defaults,
  ];
}

function given(addresses: readonly string[], name: string): string[] {
  return addresses.map((address) => {
    const [what, ...flags] = address.split(" ");
    return `address add ${what} dev ${name} ${flags.join(" ")}`;
  });
}

function isIpv6(address: string): boolean {
  return familyOf(address) === 6;
}

function firstOf(addresses: readonly string[], network: string): string {
  return addressOf(addresses.find((address) => isIpv6(address) === isIpv6(network))!);
}

/** The kernel notices a carrier behind its back (net/core/link_watch.c); until then the link drops what is sent. */
function awaitCarriers(namespace: NetworkNamespace): void {
  using links = LinkRtnetlink.open(namespace);
  const isReady = ({ up, kind, operState }: LinkState): boolean =>
    !up || kind === undefined || operState === "up";
  for (let attempt = 0; !links.linkStates().every(isReady); attempt++) {
    if (attempt === MOST_ATTEMPTS) throw new Error(`the links of ${namespace.name} got no carrier`);
    Bun.sleepSync(1);
  }
}

const MOST_ATTEMPTS = 5000;

function batch(namespace: NetworkNamespace, lines: readonly string[]): void {
  ask(namespace, ["ip", "-batch", "-"], lines.join("\n"));
}

function writeSettings(namespace: NetworkNamespace, settings: Readonly<Record<string, string>>): void {
  namespace.run(() => {
    for (const [path, value] of Object.entries(settings)) writeFileSync(`/proc/sys/net/${path}`, value);
  });
}
