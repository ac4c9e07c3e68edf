/**
 * Our plain values in the words of `ip -j -d` and `bridge -j`, so that both can be compared field by field. What only
 * one side tells (timers, offload limits) is left out on both.
 */
import type { Address } from "../../../src/linux/route/address.ts";
import type { Link } from "../../../src/linux/route/link.ts";
import type { Neighbour } from "../../../src/linux/route/neighbour.ts";
import type { Route } from "../../../src/linux/route/route.ts";
import type { PolicyRule } from "../../../src/linux/route/rule.ts";

export type Json = Readonly<Record<string, unknown>>;

/** The fields that `like` has, of `json`: what is compared. Fields that are undefined do not count. */
export function pick(json: Json, fields: readonly string[]): Json {
  return Object.fromEntries(
    fields.filter((field) => json[field] !== undefined).map((field) => [field, json[field]]),
  );
}

/** Without undefined values, deeply comparable. */
export function plain(value: Json): Json {
  return JSON.parse(JSON.stringify(value)) as Json;
}

export function sorted(values: readonly Json[]): Json[] {
  return [...values].sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
}

export type NameOf = (index: number) => string;

export function namesOfLinks(links: readonly Link[]): NameOf {
  const names = new Map(links.map((link) => [link.index, link.name]));
  return (index) => names.get(index) ?? `if${index}`;
}

export const LINK_FIELDS = [
  "ifindex",
  "link",
  "link_index",
  "link_netnsid",
  "ifname",
  "altnames",
  "ifalias",
  "flags",
  "mtu",
  "qdisc",
  "master",
  "operstate",
  "txqlen",
  "link_type",
  "address",
  "broadcast",
  "promiscuity",
  "allmulti",
  "min_mtu",
  "max_mtu",
  "linkinfo",
  "inet6_addr_gen_mode",
  "num_tx_queues",
  "num_rx_queues",
  "gso_max_size",
  "gso_max_segs",
] as const;

const BRIDGE_FIELDS = [
  "forward_delay",
  "hello_time",
  "max_age",
  "ageing_time",
  "stp_state",
  "priority",
  "vlan_filtering",
  "bridge_id",
  "mcast_snooping",
  "nf_call_iptables",
  "nf_call_ip6tables",
  "nf_call_arptables",
] as const;

const PORT_FIELDS = [
  "state",
  "priority",
  "cost",
  "hairpin",
  "guard",
  "root_block",
  "learning",
  "flood",
  "mcast_flood",
  "bcast_flood",
  "neigh_suppress",
  "isolated",
  "locked",
] as const;

const KIND_FIELDS: Readonly<Record<string, readonly string[]>> = {
  bridge: BRIDGE_FIELDS,
  vxlan: ["id", "remote", "local", "link", "port", "learning"],
  macvlan: ["mode"],
  vlan: ["protocol", "id"],
  tun: ["type", "persist"],
};

/** What `ip -j -d link` says of a link, reduced to what we tell, too. */
export function ipLink(json: Json): Json {
  const info = json["linkinfo"] as Json | undefined;
  const kind = info?.["info_kind"] as string | undefined;
  const reduced =
    info === undefined
      ? {}
      : {
          linkinfo: plain({
            ...pick(info, ["info_kind", "info_slave_kind"]),
            info_data:
              kind !== undefined && KIND_FIELDS[kind] !== undefined && info["info_data"] !== undefined
                ? pick(info["info_data"] as Json, KIND_FIELDS[kind])
                : undefined,
            info_slave_data:
              info["info_slave_data"] === undefined
                ? undefined
                : pick(info["info_slave_data"] as Json, PORT_FIELDS),
          }),
        };
  return { ...pick(json, LINK_FIELDS), ...reduced, flags: [...(json["flags"] as string[])].sort() };
}

export function linkAsIp(link: Link, nameOf: NameOf): Json {
  const elsewhere = link.linkNamespaceId !== undefined;
  const flags = link.flags.filter((flag) => flag !== "RUNNING");
  if (link.up && !link.flags.includes("RUNNING")) flags.push("NO-CARRIER");
  return plain({
    ifindex: link.index,
    link: link.link === undefined || elsewhere ? undefined : nameOf(link.link),
    link_index: elsewhere ? link.link : undefined,
    link_netnsid: link.linkNamespaceId,
    ifname: link.name,
    altnames: link.alternativeNames.length === 0 ? undefined : link.alternativeNames,
    ifalias: link.alias,
    flags: flags.sort(),
    mtu: link.mtu,
    qdisc: link.qdisc,
    master: link.master === undefined ? undefined : nameOf(link.master),
    operstate: link.operState.toUpperCase(),
    txqlen: link.queueLength === 0 ? undefined : link.queueLength,
    link_type: link.layer,
    address: link.mac,
    broadcast: link.broadcast,
    promiscuity: link.promiscuity,
    allmulti: link.allMulticast,
    min_mtu: link.minMtu,
    max_mtu: link.maxMtu,
    linkinfo: linkInfoAsIp(link, nameOf),
    inet6_addr_gen_mode: link.ipv6AddressGeneration,
    num_tx_queues: link.queues.tx,
    num_rx_queues: link.queues.rx,
    gso_max_size: link.gsoMaxSize,
    gso_max_segs: link.gsoMaxSegments,
  });
}

function linkInfoAsIp(link: Link, nameOf: NameOf): Json | undefined {
  if (link.kind === undefined) return undefined;
  const { bridge, port, vxlan, macvlan, vlan, tun } = link;
  const bit = (value: boolean): number => (value ? 1 : 0);
  const data =
    bridge !== undefined
      ? {
          forward_delay: bridge.forwardDelayMs / 10,
          hello_time: bridge.helloTimeMs / 10,
          max_age: bridge.maxAgeMs / 10,
          ageing_time: bridge.ageingTimeMs / 10,
          stp_state: bit(bridge.stp),
          priority: bridge.priority,
          vlan_filtering: bit(bridge.vlanFiltering),
          // iproute2 prints the bytes of this one without leading zeros.
          bridge_id: bridge.bridgeId.replace(/([.:])0([0-9a-f])/g, "$1$2"),
          mcast_snooping: bit(bridge.multicastSnooping),
          nf_call_iptables: bit(bridge.callIptables),
          nf_call_ip6tables: bit(bridge.callIp6tables),
          nf_call_arptables: bit(bridge.callArptables),
        }
      : vxlan !== undefined
        ? {
            id: vxlan.id,
            remote: vxlan.remote,
            local: vxlan.local,
            link: vxlan.lower === undefined ? undefined : nameOf(vxlan.lower),
            port: vxlan.port,
            learning: vxlan.learning,
          }
        : macvlan !== undefined
          ? { mode: macvlan.mode }
          : vlan !== undefined
            ? { protocol: vlan.protocol, id: vlan.id }
            : tun !== undefined
              ? { type: tun.mode, persist: tun.persistent }
              : undefined;
  return {
    info_kind: link.kind,
    info_slave_kind: link.portKind,
    info_data: data,
    info_slave_data:
      port === undefined
        ? undefined
        : {
            state: port.state,
            priority: port.priority,
            cost: port.cost,
            hairpin: port.hairpin,
            guard: port.guard,
            root_block: port.rootBlock,
            learning: port.learning,
            flood: port.flood,
            mcast_flood: port.multicastFlood,
            bcast_flood: port.broadcastFlood,
            neigh_suppress: port.neighbourSuppression,
            isolated: port.isolated,
            locked: port.locked,
          },
  };
}

const FOREVER = 4_294_967_295;

/** An entry of `addr_info`, whose point-to-point peer `ip` calls "address". */
export function addressAsIp(address: Address): Json {
  const has = (flag: string): true | undefined => (address.flags.includes(flag) ? true : undefined);
  return plain({
    family: address.family === 4 ? "inet" : "inet6",
    local: address.address,
    address: address.peer,
    prefixlen: address.prefixLength,
    metric: address.metric,
    broadcast: address.broadcast,
    scope: address.scope,
    dynamic: has("permanent") === true ? undefined : true,
    secondary: has("secondary"),
    temporary: has("temporary"),
    tentative: has("tentative"),
    dadfailed: has("dadfailed"),
    deprecated: has("deprecated"),
    nodad: has("nodad"),
    noprefixroute: has("noprefixroute"),
    label: address.label,
    valid_life_time: address.validSeconds ?? FOREVER,
    preferred_life_time: address.preferredSeconds ?? FOREVER,
  });
}

const TABLES: Readonly<Record<number, string>> = { 253: "default", 254: "main", 255: "local" };

export function tableName(table: number): string {
  return TABLES[table] ?? String(table);
}

function prefixAsIp(prefix: string): string {
  const [address = "", length] = prefix.split("/");
  if (length === "0") return "default";
  return length === (address.includes(":") ? "128" : "32") ? address : prefix;
}

/** An entry of `ip -j -d route`. */
export function routeAsIp(route: Route, nameOf: NameOf): Json {
  const { mtu, advmss, window, hopLimit, initialCongestionWindow, quickAck, rtoMinMs, ...rest } =
    route.metrics;
  if (Object.keys(rest).some((name) => name !== "locked"))
    throw new Error("a metric that this does not print");
  const metrics = plain({
    mtu,
    window,
    advmss,
    hoplimit: hopLimit,
    initcwnd: initialCongestionWindow,
    rto_min: rtoMinMs,
    quickack: quickAck === undefined ? undefined : quickAck ? 1 : 0,
  });
  const via = (gateway: string | undefined): Json =>
    gateway === undefined
      ? {}
      : gateway.includes(":") === (route.family === 6)
        ? { gateway }
        : { via: { family: gateway.includes(":") ? "inet6" : "inet", host: gateway } };
  return plain({
    type: route.type,
    dst: prefixAsIp(route.destination),
    from: route.source,
    ...via(route.gateway),
    dev: route.interface === undefined ? undefined : nameOf(route.interface),
    table: tableName(route.table),
    protocol: route.protocol,
    scope: route.scope,
    prefsrc: route.preferredSource,
    metric: route.metric,
    flags: route.flags,
    metrics: Object.keys(metrics).length === 0 ? undefined : [metrics],
    nexthops: route.nextHops?.map((hop) => ({
      ...via(hop.gateway),
      dev: hop.interface === undefined ? undefined : nameOf(hop.interface),
      weight: hop.weight,
      flags: hop.flags,
    })),
    pref: route.preference,
  });
}

/** An entry of `ip -j -d rule`. */
export function ruleAsIp(rule: PolicyRule): Json {
  const prefix = (name: string, text: string | undefined): Json => {
    if (text === undefined) return {};
    const [address = "", length] = text.split("/");
    const full = length === (address.includes(":") ? "128" : "32");
    return { [name]: address, [`${name}len`]: full ? undefined : Number(length) };
  };
  return plain({
    priority: rule.priority,
    not: rule.invert === true ? null : undefined,
    ...(rule.source === undefined ? { src: "all" } : prefix("src", rule.source)),
    ...prefix("dst", rule.destination),
    fwmark: rule.mark === undefined ? undefined : `0x${rule.mark.toString(16)}`,
    fwmask: rule.mask === undefined ? undefined : `0x${rule.mask.toString(16)}`,
    iif: rule.inputInterface,
    iif_detached: rule.flags.includes("iif-detached") ? null : undefined,
    oif: rule.outputInterface,
    oif_detached: rule.flags.includes("oif-detached") ? null : undefined,
    uid_start: rule.uids?.first,
    uid_end: rule.uids?.last,
    ipproto: rule.ipProtocol === undefined ? undefined : { 6: "tcp", 17: "udp" }[rule.ipProtocol],
    ...portsAsIp("sport", rule.sourcePorts),
    ...portsAsIp("dport", rule.destinationPorts),
    suppress_prefixlen: rule.suppressPrefixLength,
    table: rule.action === "table" ? tableName(rule.table) : undefined,
    action: rule.action === "table" || rule.action === "goto" ? undefined : rule.action,
    goto: rule.goto,
    protocol: rule.protocol,
  });
}

function portsAsIp(name: string, range: PolicyRule["sourcePorts"]): Json {
  if (range === undefined) return {};
  return range.first === range.last
    ? { [name]: range.first }
    : { [`${name}_start`]: range.first, [`${name}_end`]: range.last };
}

/** An entry of `ip -j neigh`. */
export function neighbourAsIp(neighbour: Neighbour, nameOf: NameOf): Json {
  return plain({
    dst: neighbour.address,
    dev: nameOf(neighbour.interface),
    lladdr: neighbour.mac,
    state: [neighbour.state.toUpperCase()],
  });
}
