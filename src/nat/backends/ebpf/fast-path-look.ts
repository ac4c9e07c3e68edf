/**
 * Whether anybody would be left out by the short way, between the links of pods and the uplinks: whoever could judge, shape,
 * encrypt, mark or lead these packets elsewhere. What is not known to be harmless keeps it off.
 */
import { cidrsOverlap, parseCidr } from "../../../address/cidr.ts";
import { programName, tcxPrograms } from "../../../kernel/bpf/programs.ts";
import { legacyTableNames } from "../../../kernel/iptables-legacy/table-names.ts";
import type { NetworkNamespace } from "../../../kernel/namespace.ts";
import { Nftables, type HookedObject } from "../../../kernel/nftables/nftables.ts";
import { Rtnetlink } from "../../../kernel/route/rtnetlink.ts";
import { trafficFilters } from "../../../kernel/route/traffic-control.ts";
import { readSysctl } from "../../../kernel/sysctl.ts";
import type { Link } from "../../../linux/route/link.ts";
import type { Route } from "../../../linux/route/route.ts";
import type { NatIntent } from "../../intent.ts";
import { TWIN } from "../nftables/names.ts";
import { linksOf } from "./attachments.ts";
import { FAST_PATH } from "./layout.ts";
import { fastProgramName, GUARD, programNameAt } from "./names.ts";
import { policiesIn, uplinksAmong } from "./unfit.ts";

export interface FastPathLook {
  /** Why it may not be, a sentence each; empty when it may. */
  readonly obstacles: readonly string[];
  /** Whether rules are among them. */
  readonly asksRules: boolean;
  readonly uplinks: readonly Link[];
  readonly podLinks: readonly Link[];
  /** Of neighbours that are pods: at which link, with which address, and behind which veth pair. */
  readonly veths: readonly { readonly link: number; readonly mac: string; readonly veth: number }[];
}

/** Queueing disciplines that the kernel gives a link by itself. */
const USUAL_QDISCS: ReadonlySet<string> = new Set(["noqueue", "pfifo_fast", "fq_codel", "fq", "mq"]);
/** FIB rules that every namespace has, by family and priority. */
const USUAL_RULES: ReadonlySet<number> = new Set([0, 32_766, 32_767]);
const ON_THE_WAY: ReadonlySet<string> = new Set([
  "prerouting",
  "forward",
  "postrouting",
  "ingress",
  "egress",
]);

/** @param intents of all owners */
export function lookAtFastPath(namespace: NetworkNamespace, intents: readonly NatIntent[]): FastPathLook {
  const links = linksOf(namespace);
  using route = Rtnetlink.open(namespace);
  const routes = route.routes();
  const uplinks = uplinksAmong(route, links).filter(isPlain).slice(0, FAST_PATH.mostUplinks);
  const podLinks = podLinksAmong(links, routes, intents).filter((link) => !uplinks.includes(link));
  const ports = links.filter(({ master }) => podLinks.some(({ index }) => index === master));
  const path = [...uplinks, ...podLinks, ...ports];
  const hooks = hookObstacles(namespace);
  const obstacles = [
    ...(uplinks.length === 0 ? ["there is no uplink of Ethernet"] : []),
    ...(podLinks.length === 0 ? ["no route leads to the sources of the policy by a link of Ethernet"] : []),
    ...hooks,
    ...policiesIn(namespace)
      .slice(0, 1)
      .map(({ source, destination }) => `an IPsec policy is in force (${source} to ${destination})`),
    ...routingObstacles(route, routes, links),
    ...path.flatMap(linkObstacles),
    ...bridgeObstacles(namespace, links, ports),
    ...reversePathObstacles(namespace, [...uplinks, ...podLinks]),
    ...filterObstacles(route, path),
    ...programObstacles(namespace, uplinks, podLinks, ports),
  ];
  return {
    obstacles,
    asksRules: hooks.length > 0,
    uplinks,
    podLinks,
    veths: vethsOf(route, links, podLinks),
  };
}

/** With a header of Ethernet, up, and no part of another link. */
function isPlain({ layer, master, up }: Link): boolean {
  return layer === "ether" && master === undefined && up;
}

/** Links by which a route leads to pods themselves, and not to a router. */
function podLinksAmong(
  links: readonly Link[],
  routes: readonly Route[],
  intents: readonly NatIntent[],
): Link[] {
  const sources = intents.flatMap((intent) => intent.sources.map(({ cidr }) => parseCidr(cidr)));
  const leading = new Set(
    routes
      .filter(({ type, gateway, destination }) => {
        if (type !== "unicast" || gateway !== undefined) return false;
        const network = parseCidr(destination);
        return network.prefixLength > 0 && sources.some((source) => cidrsOverlap(source, network));
      })
      .map((one) => one.interface),
  );
  return links.filter((link) => leading.has(link.index) && isPlain(link));
}

function hookObstacles(namespace: NetworkNamespace): string[] {
  using nftables = Nftables.open(namespace);
  const chains = nftables.hooked().filter(judges).map(chainText);
  const legacy = (["ip", "ip6"] as const).flatMap((family) =>
    legacyTableNames(family, namespace).map(
      (name) => `iptables-legacy has the table ${name} of family ${family}`,
    ),
  );
  return [...chains, ...legacy];
}

/**
 * Ours that have nothing to say of these packets: the guard lets pass what leaves by a link with our programs, and the twin
 * holds what the tables of other backends say, which are not among these.
 */
const SILENT = [GUARD, TWIN];

/** Whether a chain is asked about packets that are forwarded. A bridge's chains are all asked about what pods send. */
function judges({ family, table, hook }: HookedObject): boolean {
  if (SILENT.some((ours) => ours.family === family && ours.table === table)) return false;
  return family === "bridge" || (family !== "arp" && ON_THE_WAY.has(hook));
}

function chainText({ family, table, name, hook }: HookedObject): string {
  return `the chain ${name} of table ${family} ${table} is asked at the hook ${hook}`;
}

function routingObstacles(route: Rtnetlink, routes: readonly Route[], links: readonly Link[]): string[] {
  const rule = route.rules().find(({ priority }) => !USUAL_RULES.has(priority));
  const several = routes.find(({ nextHops }) => nextHops !== undefined);
  const wrapped = routes.find(({ encapsulation }) => encapsulation !== undefined);
  const vrf = links.find(({ kind }) => kind === "vrf");
  return [
    ...(rule === undefined ? [] : [`there is a rule of policy routing (priority ${rule.priority})`]),
    ...(several === undefined ? [] : [`the route to ${several.destination} has several next hops`]),
    ...(wrapped === undefined ? [] : [`the route to ${wrapped.destination} encapsulates`]),
    ...(vrf === undefined ? [] : [`there is a VRF (${vrf.name})`]),
  ];
}

function linkObstacles({ name, qdisc, xdp, bridge }: Link): string[] {
  return [
    ...(qdisc === undefined || USUAL_QDISCS.has(qdisc)
      ? []
      : [`${name} has the queueing discipline ${qdisc}`]),
    ...(xdp === undefined || xdp.programIds.length === 0 ? [] : [`${name} has an XDP program`]),
    ...(bridge?.vlanFiltering === true ? [`the bridge ${name} filters VLANs`] : []),
  ];
}

function bridgeObstacles(
  namespace: NetworkNamespace,
  links: readonly Link[],
  ports: readonly Link[],
): string[] {
  const filtered = (["iptables", "ip6tables"] as const).filter(
    (what) => readSysctl(namespace, `net.bridge.bridge-nf-call-${what}`) === "1",
  );
  const own = links.filter(({ bridge }) => bridge?.callIptables === true || bridge?.callIp6tables === true);
  const guarded = ports.filter(({ port }) => port?.isolated === true || port?.locked === true);
  return [
    ...filtered.map((what) => `frames of bridges are shown to ${what} (br_netfilter)`),
    ...own.map(({ name }) => `frames of the bridge ${name} are shown to iptables (br_netfilter)`),
    ...guarded.map(
      ({ name, port }) => `the port ${name} is ${port?.isolated === true ? "isolated" : "locked"}`,
    ),
  ];
}

/** A strict filter asks for the way back at every packet, and here nobody asks. */
function reversePathObstacles(namespace: NetworkNamespace, links: readonly Link[]): string[] {
  const all = Number(readSysctl(namespace, "net.ipv4.conf.all.rp_filter") ?? 0);
  return links.flatMap(({ name, ipv4 }) =>
    Math.max(all, ipv4?.rp_filter ?? 0) === 1 ? [`rp_filter is strict at ${name}`] : [],
  );
}

function filterObstacles(route: Rtnetlink, path: readonly Link[]): string[] {
  return trafficFilters(route).flatMap(({ link, kind, side }) => {
    const at = path.find(({ index }) => index === link);
    return at === undefined ? [] : [`${at.name} has a filter of traffic control at its ${side} (${kind})`];
  });
}

/** Ours are to be where they translate, and nobody else's anywhere. */
function programObstacles(
  namespace: NetworkNamespace,
  uplinks: readonly Link[],
  podLinks: readonly Link[],
  ports: readonly Link[],
): string[] {
  const path = [...uplinks, ...podLinks, ...ports];
  const found = tcxPrograms(
    namespace,
    path.map(({ index }) => index),
  ).map((one) => ({ ...one, name: programName(one.id) ?? `number ${one.id}` }));
  const ours: ReadonlySet<string> = new Set([
    programNameAt("ingress"),
    programNameAt("egress"),
    fastProgramName("leaves"),
    fastProgramName("arrives"),
  ]);
  const nameOf = (index: number): string => path.find((link) => link.index === index)!.name;
  const foreign = found.filter(({ name }) => !ours.has(name));
  const lacking = uplinks.flatMap(({ index, name }) =>
    (["ingress", "egress"] as const)
      .filter(
        (side) =>
          !found.some((one) => one.link === index && one.side === side && one.name === programNameAt(side)),
      )
      .map((side) => `our program is not at the ${side} of ${name}`),
  );
  return [
    ...foreign.map(({ name, link, side }) => `${nameOf(link)} has the program ${name} at its ${side}`),
    ...lacking,
  ];
}

function vethsOf(route: Rtnetlink, links: readonly Link[], podLinks: readonly Link[]): FastPathLook["veths"] {
  const byIndex = new Map(links.map((link) => [link.index, link]));
  const isVeth = (index: number): boolean => {
    const link = byIndex.get(index);
    // Into a namespace of its own: the kernel takes no other.
    return link?.kind === "veth" && link.linkNamespaceId !== undefined && link.up;
  };
  const wanted = new Set(podLinks.map(({ index }) => index));
  const learned = route
    .forwardingDatabase()
    .filter(({ master, state }) => master !== undefined && wanted.has(master) && state !== "permanent")
    .map(({ master, mac, interface: veth }) => ({ link: master!, mac, veth }));
  const direct = route
    .neighbours()
    .flatMap(({ interface: link, mac }) =>
      mac !== undefined && wanted.has(link) && byIndex.get(link)?.kind === "veth"
        ? [{ link, mac, veth: link }]
        : [],
    );
  return [...learned, ...direct].filter(({ veth }) => isVeth(veth));
}
