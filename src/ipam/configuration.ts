/** host-local's configuration: the `ipam` object of a network, and what the runtime asks for beside it. Pure. */
import { cidrText } from "../address/cidr.ts";
import { ipFamily, prefixFamily } from "../address/ip.ts";
import type { AssignedRoute } from "./assignment.ts";
import { asCidr, FieldError, Fields } from "./fields.ts";
import { checkDisjoint, rangeOf, rangeSetText, readRange, readRangeSet, type RangeSet } from "./range.ts";

/** Where host-local keeps its files when the configuration names no `dataDir`. */
export const DEFAULT_DATA_DIRECTORY = "/var/lib/cni/networks";

export interface HostLocalConfiguration {
  readonly network: string;
  /** The network's own directory: `dataDir/network`. */
  readonly directory: string;
  readonly sets: readonly RangeSet[];
  /** Addresses asked for by name; each lies in one of the sets. */
  readonly requested: readonly string[];
  readonly routes: readonly AssignedRoute[];
  /** A file in resolv.conf(5)'s form whose contents become the result's `dns`. */
  readonly resolvConf?: string;
}

/** What may ask for addresses, besides the configuration file. */
export interface Requests {
  /** `IP=` of CNI_ARGS. */
  readonly argument?: string;
  /** `args.cni.ips`. */
  readonly args?: Fields;
  /** `runtimeConfig`: `ips` and `ipRanges`. */
  readonly runtime?: Fields;
}

/**
 * @param ipam the `ipam` object
 * @throws FieldError
 */
export function readHostLocal(
  network: string,
  ipam: Fields,
  requests: Requests = {},
): HostLocalConfiguration {
  const sets = [
    ...(requests.runtime?.list("ipRanges", readRangeSet) ?? []),
    ...(ipam.raw("subnet") === undefined ? [] : [[readRange(ipam)]]),
    ...(ipam.list("ranges", readRangeSet) ?? []),
  ];
  if (sets.length === 0)
    throw new FieldError(ipam.pathOf("ranges"), "is missing: there are no addresses to assign");
  checkDisjoint(sets, ipam.pathOf("ranges"));
  const resolvConf = ipam.string("resolvConf");
  return {
    network,
    directory: `${dataDirectory(ipam)}/${network}`,
    sets,
    requested: requestedAddresses(sets, requests),
    routes: ipam.list("routes", readRoute) ?? [],
    ...(resolvConf === undefined || resolvConf === "" ? {} : { resolvConf }),
  };
}

/** The `dataDir` of a configuration; for those who must release addresses whatever else is wrong with it. */
export function dataDirectory(ipam: Fields): string {
  const directory = ipam.string("dataDir") ?? "";
  if (directory === "") return DEFAULT_DATA_DIRECTORY;
  if (!directory.startsWith("/")) ipam.refuse("dataDir", `"${directory}" must be an absolute path`);
  return directory.replace(/\/+$/, "");
}

function requestedAddresses(sets: readonly RangeSet[], requests: Requests): string[] {
  const { argument, args, runtime } = requests;
  const requested = new Map<string, string>();
  // Written with or without a prefix length; that of the subnet counts.
  const request = (value: unknown, path: string): unknown =>
    requested.set(asCidr(value, path, "keep").address, path);
  if (argument !== undefined && argument !== "") request(argument, "CNI_ARGS IP");
  args?.list("ips", request);
  runtime?.list("ips", request);
  const taken = new Set<RangeSet>();
  for (const [address, path] of requested) {
    const set = sets.find((candidate) => rangeOf(candidate, address) !== undefined);
    if (set === undefined) {
      throw new FieldError(path, `asks for ${address}, which is not in ${sets.map(rangeSetText).join("; ")}`);
    }
    if (taken.has(set)) {
      throw new FieldError(path, `asks for a second address (${address}) of ${rangeSetText(set)}`);
    }
    if (rangeOf(set, address)!.gateway === address) {
      throw new FieldError(path, `asks for ${address}, which is the subnet's gateway`);
    }
    taken.add(set);
  }
  return [...requested.keys()];
}

/** One entry of `routes`. @throws FieldError */
export function readRoute(value: unknown, path: string): AssignedRoute {
  const fields = Fields.of(value, path);
  const destination = fields.raw("dst");
  if (destination === undefined) throw new FieldError(`${path}.dst`, "is missing");
  const dst = cidrText(asCidr(destination, `${path}.dst`, "keep"));
  const gw = fields.ip("gw");
  if (gw !== undefined && ipFamily(gw) !== prefixFamily(dst)) {
    throw new FieldError(`${path}.gw`, `${gw} is of another address family than ${dst}`);
  }
  const U32 = 0xffff_ffff;
  const mtu = fields.integer("mtu", 0, U32);
  const advmss = fields.integer("advmss", 0, U32);
  const priority = fields.integer("priority", 0, U32);
  const table = fields.integer("table", 0, U32);
  const scope = fields.integer("scope", 0, 255);
  return {
    dst,
    ...(gw === undefined ? {} : { gw }),
    ...(mtu === undefined || mtu === 0 ? {} : { mtu }),
    ...(advmss === undefined || advmss === 0 ? {} : { advmss }),
    ...(priority === undefined || priority === 0 ? {} : { priority }),
    ...(table === undefined ? {} : { table }),
    ...(scope === undefined ? {} : { scope }),
  };
}
