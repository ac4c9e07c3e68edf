/** A node, and what independent witnesses say is on it. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { isIp } from "../../src/address/ip.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { ask, askJson, run } from "../support/witness.ts";
import { buildNodeWorld, type NodeWorld } from "../support/node-world.ts";
import type { Configuration } from "./plugin.ts";

/** A node with an uplink to an outside that has no way back to the pods. */
export function nodeWithOutside(): Pick<NodeWorld, "node" | "outside"> {
  return buildNodeWorld({
    uplink: {
      name: "up0",
      outsideName: "internet0",
      addresses: ["203.0.113.5/24", "2001:db8:1::5/64"],
      outsideAddresses: ["203.0.113.1/24", "2001:db8:1::1/64"],
      gateways: ["203.0.113.1"],
      knownNeighbours: true,
    },
    servers: ["198.51.100.1/32"],
  });
}

export function pings(pod: NetworkNamespace, address: string): boolean {
  return run(pod, ["ping", "-c1", "-W5", address]).exitCode === 0;
}

export interface IpLink {
  readonly ifindex: number;
  readonly ifname: string;
  readonly ifalias?: string;
  readonly address: string;
  readonly master?: string;
  readonly mtu: number;
  readonly flags: readonly string[];
}

export function links(namespace: NetworkNamespace): IpLink[] {
  return askJson(namespace, ["ip", "-j", "link"]);
}

export function linkNames(namespace: NetworkNamespace): string[] {
  return links(namespace).map(({ ifname }) => ifname);
}

/** Host ends of our pods' links. */
export function podLinks(node: NetworkNamespace): string[] {
  return linkNames(node).filter((name) => name.startsWith("wout"));
}

/** Global addresses on an interface, with prefix. */
export function addressesOn(namespace: NetworkNamespace, name: string): string[] {
  const [link] = askJson<{ addr_info: { local: string; prefixlen: number; scope: string }[] }[]>(namespace, [
    "ip",
    "-j",
    "address",
    "show",
    name,
  ]);
  return link!.addr_info
    .filter(({ scope }) => scope === "global")
    .map(({ local, prefixlen }) => `${local}/${prefixlen}`);
}

/** host-local's directory of a network. */
export function dataDirectory(conf: Configuration): string {
  const { dataDir = "/var/lib/cni/networks" } = conf["ipam"] as { readonly dataDir?: string };
  return join(dataDir, String(conf["name"]));
}

/** Addresses that have a file. */
export function reserved(conf: Configuration): string[] {
  const directory = dataDirectory(conf);
  return existsSync(directory) ? readdirSync(directory).filter(isIp).sort() : [];
}

/** Everything an attachment may change in a namespace. Link-local addresses come and go by themselves. */
export function stateOf(namespace: NetworkNamespace): object {
  const sysctl = (name: string): string => ask(namespace, ["sysctl", "-n", name]).trim();
  return {
    links: links(namespace).map(({ ifname, flags, mtu, address, master, ifalias }) => {
      const steady = flags.filter((flag) => flag !== "LOWER_UP" && flag !== "NO-CARRIER");
      return { ifname, flags: steady, mtu, address, master, ifalias };
    }),
    addresses: linkNames(namespace).map((name) => addressesOn(namespace, name)),
    routes: ask(namespace, ["ip", "-4", "route", "show", "table", "all"]),
    rules: ask(namespace, ["nft", "-s", "list", "ruleset"]),
    forwarding: [sysctl("net.ipv4.ip_forward"), sysctl("net.ipv6.conf.all.forwarding")],
  };
}

/** The files that say who has which address, with what they say. */
export function reservations(conf: Configuration): object {
  return Object.fromEntries(
    reserved(conf).map((address) => [address, readFileSync(join(dataDirectory(conf), address), "utf8")]),
  );
}
