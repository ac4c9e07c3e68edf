/** The result of an ADD, as a value of the newest version, and as JSON of each. Pure. */
import { canonicalIp, prefixFamily } from "../address/ip.ts";
import type { AssignedRoute, Dns } from "../ipam/assignment.ts";
import { readRoute } from "../ipam/configuration.ts";
import { asCidr, asString, FieldError, Fields } from "../ipam/fields.ts";
import { rethrowMistake, WayoutError } from "../error.ts";
import { atLeast, CNI_VERSIONS, isSpoken, type CniVersion } from "./version.ts";

export interface ResultInterface {
  readonly name: string;
  readonly mac?: string;
  readonly mtu?: number;
  /** Path of the pod's namespace; absent on the node. */
  readonly sandbox?: string;
  /** Of interfaces that other plugins of a chain made: a vhost-user socket, a PCI device. */
  readonly socketPath?: string;
  readonly pciID?: string;
}

export interface ResultAddress {
  /** Index in `interfaces`. */
  readonly interface?: number;
  /** With prefix length. */
  readonly address: string;
  readonly gateway?: string;
}

export interface Result {
  readonly interfaces: readonly ResultInterface[];
  readonly ips: readonly ResultAddress[];
  readonly routes: readonly AssignedRoute[];
  readonly dns: Dns;
}

export const EMPTY_RESULT: Result = { interfaces: [], ips: [], routes: [], dns: {} };

/** What an earlier plugin of the chain reported, with ours added behind it. */
export function appendResult(earlier: Result, ours: Result): Result {
  const offset = earlier.interfaces.length;
  return {
    interfaces: [...earlier.interfaces, ...ours.interfaces],
    ips: [
      ...earlier.ips,
      ...ours.ips.map((ip) =>
        ip.interface === undefined ? ip : { ...ip, interface: ip.interface + offset },
      ),
    ],
    routes: [...earlier.routes, ...ours.routes],
    dns: Object.keys(ours.dns).length > 0 ? ours.dns : earlier.dns,
  };
}

/** JSON of a result in the shape of a version; what the version does not know is left out. */
export function resultJson(result: Result, version: CniVersion): object {
  if (!atLeast(version, "0.3.0")) return oldResultJson(result, version);
  const withVersion = !atLeast(version, "1.0.0");
  const newest = atLeast(version, "1.1.0");
  return {
    cniVersion: version,
    interfaces: unlessEmpty(
      result.interfaces.map(({ mtu, socketPath, pciID, ...known }) => ({
        ...known,
        mtu: newest ? mtu : undefined,
        ...(withVersion ? {} : { socketPath, pciID }),
      })),
    ),
    ips: unlessEmpty(
      result.ips.map((ip) => ({
        version: withVersion ? String(prefixFamily(ip.address)) : undefined,
        interface: ip.interface,
        address: ip.address,
        gateway: ip.gateway,
      })),
    ),
    routes: unlessEmpty(result.routes.map((route) => (newest ? route : { dst: route.dst, gw: route.gw }))),
    dns: result.dns,
  };
}

/** The specification's own library leaves empty lists out, and so does everybody. */
function unlessEmpty<T>(list: readonly T[]): readonly T[] | undefined {
  return list.length === 0 ? undefined : list;
}

/** Before 0.3.0: one address of each family, with its routes; no interfaces. */
function oldResultJson(result: Result, version: CniVersion): object {
  const part = (family: 4 | 6): object | undefined => {
    const ip = result.ips.find(({ address }) => prefixFamily(address) === family);
    if (ip === undefined) return undefined;
    const routes = result.routes
      .filter(({ dst }) => prefixFamily(dst) === family)
      .map(({ dst, gw }) => ({ dst, gw }));
    return { ip: ip.address, gateway: ip.gateway, routes: unlessEmpty(routes) };
  };
  return { cniVersion: version, ip4: part(4), ip6: part(6), dns: result.dns };
}

/**
 * Reads a result of any version we speak.
 * @param fallback the version when the result names none
 * @throws WayoutError `cni-version`, FieldError
 */
export function readResult(value: unknown, path: string, fallback: CniVersion): Result {
  const fields = Fields.of(value, path);
  const named = fields.string("cniVersion") ?? "";
  const version = named === "" ? fallback : named;
  if (!isSpoken(version)) {
    throw new WayoutError({
      code: "cni-version",
      kind: "usage",
      doing: `reading ${path}`,
      said: `it is of version ${version}; this plugin speaks ${CNI_VERSIONS.join(", ")}`,
    });
  }
  if (!atLeast(version, "0.3.0")) return readOldResult(fields);
  const interfaces = fields.list("interfaces", readInterface) ?? [];
  return {
    interfaces,
    ips: fields.list("ips", (item, at) => readAddress(item, at, interfaces.length)) ?? [],
    routes: fields.list("routes", readRoute) ?? [],
    dns: readDns(fields.object("dns")),
  };
}

function readInterface(value: unknown, path: string): ResultInterface {
  const fields = Fields.of(value, path);
  const name = fields.string("name");
  if (name === undefined) throw new FieldError(`${path}.name`, "is missing");
  const mac = fields.string("mac");
  const mtu = fields.integer("mtu", 0, 0xffff_ffff);
  const text = (key: "sandbox" | "socketPath" | "pciID"): { readonly [K in typeof key]?: string } => {
    const value = fields.string(key) ?? "";
    return value === "" ? {} : { [key]: value };
  };
  return {
    name,
    ...(mac === undefined || mac === "" ? {} : { mac }),
    ...(mtu === undefined || mtu === 0 ? {} : { mtu }),
    ...text("sandbox"),
    ...text("socketPath"),
    ...text("pciID"),
  };
}

function readAddress(value: unknown, path: string, interfaces: number): ResultAddress {
  const fields = Fields.of(value, path);
  const { address, prefixLength } = asCidr(fields.raw("address"), `${path}.address`, "keep");
  const gateway = fields.ip("gateway");
  const index = fields.integer("interface", 0, Math.max(interfaces - 1, 0));
  return {
    ...(index === undefined ? {} : { interface: index }),
    address: `${address}/${prefixLength}`,
    ...(gateway === undefined ? {} : { gateway }),
  };
}

function readOldResult(fields: Fields): Result {
  const ips: ResultAddress[] = [];
  const routes: AssignedRoute[] = [];
  for (const key of ["ip4", "ip6"]) {
    const part = fields.object(key);
    if (part === undefined) continue;
    const { address, prefixLength } = asCidr(part.raw("ip"), part.pathOf("ip"), "keep");
    const gateway = part.ip("gateway");
    ips.push({ address: `${address}/${prefixLength}`, ...(gateway === undefined ? {} : { gateway }) });
    routes.push(...(part.list("routes", readRoute) ?? []));
  }
  return { interfaces: [], ips, routes, dns: readDns(fields.object("dns")) };
}

/** Empty lists and an empty domain mean nothing and are left out. @throws FieldError */
export function readDns(fields: Fields | undefined): Dns {
  if (fields === undefined) return {};
  const nameservers =
    fields.list("nameservers", (value, path) => canonicalOrAsIs(asString(value, path))) ?? [];
  const domain = fields.string("domain") ?? "";
  const search = fields.strings("search") ?? [];
  const options = fields.strings("options") ?? [];
  return {
    ...(nameservers.length === 0 ? {} : { nameservers }),
    ...(domain === "" ? {} : { domain }),
    ...(search.length === 0 ? {} : { search }),
    ...(options.length === 0 ? {} : { options }),
  };
}

/** A name server may carry a zone (fe80::1%eth0), which is no plain address. */
function canonicalOrAsIs(text: string): string {
  try {
    return canonicalIp(text);
  } catch (error) {
    rethrowMistake(error);
    return text;
  }
}
