/**
 * Whether a way out that was once made still stands. The caller (CHECK and STATUS of the plugin, `list`, `attach`) says
 * what was promised; here it is compared with what the kernel has, link by link, from the pod outwards. What is wrong has
 * the same code and the same sentence for all of them. A plugin call runs it: see docs/architecture.md.
 */
import { parseCidr } from "../address/cidr.ts";
import { addressOf, ipBits, ipFamily, DEFAULT_CIDR } from "../address/ip.ts";
import type { LinkRtnetlink } from "../kernel/route/link-rtnetlink.ts";
import type { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { givenUpBecause } from "../pods/pod-socket.ts";
import type { Address } from "../linux/route/address.ts";
import type { LinkState } from "../linux/route/link-state.ts";
import {
  bridgeDown,
  noBridge,
  noGateway,
  notEnslaved,
  notPromiscuous,
  problem,
  type NodeProblem,
  type Problem,
} from "./problem.ts";

/** What is expected between a pod and the node. What is absent was promised by nobody, and is not looked at. */
export interface ExpectedLink {
  /** The pod's interface. */
  readonly interface: string;
  /** Kind and MAC that it was made with. */
  readonly kind?: "veth";
  readonly mac?: string;
  /** It was left down on purpose. */
  readonly leftDown?: boolean;
  /** The pod's addresses; where one has a prefix, the prefix counts, too. */
  readonly addresses: readonly string[];
  readonly routes: readonly ExpectedRoute[];
  /** The node's end. */
  readonly hostInterface?: string;
  readonly bridge?: string;
  /** The node's own addresses, with or without prefix, and the interface that has them; absent: the bridge. */
  readonly gateways: readonly string[];
  readonly gatewayInterface?: string;
  /** The bridge shall take every frame. */
  readonly promiscuous?: boolean;
  /** What the node's end shall be as a port of the bridge. */
  readonly port?: PortSettings;
  /** Whether the addresses are checked with which the port sends; absent where they shall not be. */
  readonly isGuarded?: (port: string, mac: string) => boolean;
}

/** What is false is not looked at: another program of the network's chain may have set it. */
export interface PortSettings {
  readonly hairpin: boolean;
  readonly isolated: boolean;
}

/** What is expected of a bridge, whatever is attached to it. */
export interface ExpectedBridge {
  readonly bridge: string;
  readonly gateways: readonly string[];
  readonly gatewayInterface?: string;
  readonly promiscuous?: boolean;
}

export interface ExpectedRoute {
  /** A prefix, `0.0.0.0/0` or `::/0` for everything. */
  readonly destination: string;
  /** Absent: any. */
  readonly gateway?: string;
}

/** Default routes through these gateways, which may have a prefix. */
export function defaultRoutes(gateways: readonly string[]): ExpectedRoute[] {
  return gateways.map((text) => {
    const gateway = addressOf(text);
    return { destination: DEFAULT_CIDR[ipFamily(gateway)], gateway };
  });
}

/** What is asked inside a pod. */
type PodTables = LinkRtnetlink & Pick<Rtnetlink, "routes">;

/** Everything that is wrong between the pod and its bridge; empty when the link stands. */
export function linkProblems(node: LinkRtnetlink, inside: PodTables, expected: ExpectedLink): Problem[] {
  const own = inside.linkState(expected.interface);
  const { bridge: name } = expected;
  const bridge = name === undefined ? undefined : node.linkState(name);
  const problems = podProblems(inside, own, expected);
  const isBridge = bridge?.kind === "bridge";
  if (name !== undefined) {
    for (const { problem: found } of bridgeProblems(node, bridge, { ...expected, bridge: name }))
      problems.push(found);
  }
  // Without its bridge a port cannot be as it should; that would be told twice.
  if (name === undefined || isBridge) {
    problems.push(...hostProblems(node, own, bridge, expected));
  }
  return problems;
}

function podProblems(inside: PodTables, link: LinkState | undefined, expected: ExpectedLink): Problem[] {
  const name = expected.interface;
  if (link === undefined) return [problem("pod-interface-missing", `${name} is missing in the namespace`)];
  const problems: Problem[] = [];
  if (expected.kind !== undefined && link.kind !== expected.kind) {
    const kind = link.kind ?? "another interface";
    problems.push(problem("pod-interface-replaced", `${name} in the namespace is no veth but ${kind}`));
  }
  if (expected.mac !== undefined && link.mac !== expected.mac.toLowerCase()) {
    problems.push(problem("pod-interface-replaced", `${name} has the MAC ${link.mac}, not ${expected.mac}`));
  }
  if (!link.up && expected.leftDown !== true)
    problems.push(problem("pod-link-down", `${name} is down in the namespace`));
  problems.push(
    ...asFarAsRead("addresses", () => addressProblems(inside.addresses({ interface: link.index }), expected)),
    ...asFarAsRead("routes", () => routeProblems(inside, expected)),
  );
  return problems;
}

/** A pod may fill its namespace with any number of them. */
function asFarAsRead(what: string, look: () => Problem[]): Problem[] {
  try {
    return look();
  } catch (error) {
    const why = givenUpBecause(error);
    if (why === undefined) throw error;
    return [problem("pod-not-read", `the ${what} in the namespace were not read (${why})`)];
  }
}

function addressProblems(there: readonly Address[], expected: ExpectedLink): Problem[] {
  const problems: Problem[] = [];
  for (const text of expected.addresses) {
    const found = find(there, text);
    if (found === undefined)
      problems.push(problem("pod-no-address", `${text} is not on ${expected.interface}`));
    else if (found.flags.includes("dadfailed")) {
      const said = `${found.address} is used twice (its check for duplicates failed)`;
      problems.push(problem("duplicate-address", said));
    }
  }
  return problems;
}

/** @param text an address; with a prefix, only the address with this very prefix */
function find(there: readonly Address[], text: string): Address | undefined {
  const hasPrefix = text.includes("/");
  const { address, prefixLength } = parseCidr(hasPrefix ? text : `${text}/${ipBits(ipFamily(text))}`, "keep");
  for (const own of there) {
    if (own.address === address && (!hasPrefix || own.prefixLength === prefixLength)) return own;
  }
  return undefined;
}

function routeProblems(inside: PodTables, { routes }: ExpectedLink): Problem[] {
  const problems: Problem[] = [];
  const there = routes.length === 0 ? [] : inside.routes();
  for (const { destination, gateway } of routes) {
    let leads = false;
    for (const route of there) {
      if (route.destination !== destination) continue;
      if (gateway === undefined || route.gateway === gateway) leads = true;
    }
    if (leads) continue;
    const isDefault = destination === DEFAULT_CIDR[4] || destination === DEFAULT_CIDR[6];
    const route = isDefault ? "default route" : `route to ${destination}`;
    const through = gateway === undefined ? "" : ` through ${gateway}`;
    problems.push(problem("pod-no-route", `the namespace has no ${route}${through}`));
  }
  return problems;
}

/**
 * Everything that is wrong with the node's side of a network; empty when it stands.
 * @param link what has the bridge's name
 */
export function bridgeProblems(
  node: LinkRtnetlink,
  link: LinkState | undefined,
  { bridge, gateways, gatewayInterface = bridge, promiscuous = false }: ExpectedBridge,
): NodeProblem[] {
  const object = `bridge ${bridge}`;
  if (link?.kind !== "bridge") return [{ object, problem: noBridge(bridge, link) }];
  const problems: NodeProblem[] = link.up ? [] : [{ object, problem: bridgeDown(bridge) }];
  if (promiscuous && !isPromiscuous(link)) problems.push({ object, problem: notPromiscuous(bridge) });
  if (gateways.length === 0) return problems;
  const holder = gatewayInterface === bridge ? link : node.linkState(gatewayInterface);
  const there = holder === undefined ? [] : node.addresses({ interface: holder.index });
  for (const text of gateways) {
    if (find(there, text) !== undefined) continue;
    const lacking = noGateway(gatewayInterface, text);
    problems.push({ object: `address ${text} on ${gatewayInterface}`, problem: lacking });
  }
  return problems;
}

export function isPromiscuous({ flags }: LinkState): boolean {
  return flags.includes("PROMISC");
}

function portProblems({ name, port }: LinkState, wanted: PortSettings): Problem[] {
  const settings = [
    ["hairpin", "hairpinMode"],
    ["isolated", "portIsolation"],
  ] as const;
  return settings
    .filter(([setting]) => wanted[setting] && port?.[setting] !== true)
    .map(([setting, key]) =>
      problem("host-link-settings", `the port ${name} is not ${setting}, as ${key} wants it`),
    );
}

/** The node's end by its name; where another plugin named it, it is the peer of the pod's interface. */
function hostProblems(
  node: LinkRtnetlink,
  own: LinkState | undefined,
  bridge: LinkState | undefined,
  { hostInterface: name, isGuarded, port }: ExpectedLink,
): Problem[] {
  if (name === undefined) return [];
  const host = node.linkState(name) ?? (own?.link === undefined ? undefined : node.linkState(own.link));
  if (host === undefined) return [problem("host-link-missing", `${name} is missing on the node`)];
  const problems: Problem[] = [];
  if (!host.up) problems.push(problem("host-link-down", `${host.name} is down`));
  if (bridge !== undefined && host.master !== bridge.index)
    problems.push(notEnslaved(host.name, bridge.name));
  else if (port !== undefined) problems.push(...portProblems(host, port));
  if (isGuarded !== undefined && own !== undefined && !isGuarded(host.name, own.mac)) {
    const said = `the sender addresses on ${host.name} are not checked (macspoofchk)`;
    problems.push(problem("senders-unchecked", said));
  }
  return problems;
}
