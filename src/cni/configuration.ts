/** The network configuration on stdin: the bridge plugin's keys, and ours. Pure. */
import { canonicalIp, ipFamily, ipNumber, type IpFamily } from "../address/ip.ts";
import { cidrText } from "../address/cidr.ts";
import { macBytes, macText } from "../address/mac.ts";
import { messageOf, WayoutError } from "../error.ts";
import type { Dns } from "../ipam/assignment.ts";
import { asCidr, asString, FieldError, Fields } from "../ipam/fields.ts";
import { withUsualKeys } from "../ipam/usual-keys.ts";
import { DEFAULT_BACKEND, translating, type NatBackendName } from "../nat/backends/backends.ts";
import type { Translation } from "../nat/intent.ts";
import type { NatWish } from "../nat/network-wants.ts";
import { isInterfaceName } from "../network/interface-name.ts";
import { jsonFault } from "../text/json-fault.ts";
import { checkNetworkName, type CniArguments } from "./call.ts";
import { readDns } from "./result.ts";
import { CNI_VERSIONS, isSpoken, OLDEST, type CniVersion } from "./version.ts";

/** The bridge plugin's default. */
const DEFAULT_BRIDGE = "cni0";
const MAX_VLAN = 4094;
/** IFLA_MTU is 32 bits wide; a veth takes 68 to 65535. */
const MAX_MTU = 65535;

/** A configuration as far as every command needs it, whatever else is wrong with it. */
export interface NetworkHeader {
  readonly version: CniVersion;
  readonly network: string;
  /** "" for a layer 2 network. */
  readonly ipamType: string;
  readonly fields: Fields;
  /** The bytes themselves, for delegates. */
  readonly text: string;
}

export interface NetworkConfiguration {
  readonly version: CniVersion;
  readonly network: string;
  readonly bridge: string;
  readonly isGateway: boolean;
  readonly isDefaultGateway: boolean;
  readonly forceAddress: boolean;
  readonly mtu?: number;
  readonly hairpin: boolean;
  readonly promiscuous: boolean;
  /** 0: none. */
  readonly vlan: number;
  readonly vlanTrunk: readonly VlanRange[];
  readonly preserveDefaultVlan: boolean;
  readonly checkMacSpoofing: boolean;
  readonly duplicateAddressDetection: boolean;
  readonly disableContainerInterface: boolean;
  readonly portIsolation: boolean;
  readonly mac?: string;
  readonly dns: Dns;
  readonly nat: NatWish;
  /** A file without which no pod may come (waits-for.ts). */
  readonly waitsFor?: string;
}

export interface VlanRange {
  readonly first: number;
  readonly last: number;
}

/**
 * @throws WayoutError `not-json`, `cni-version`; FieldError for a missing or wrong name
 */
export function readHeader(text: string): NetworkHeader {
  const fields = parseJson(text);
  const version = fields.string("cniVersion") ?? "";
  const spoken = version === "" ? OLDEST : version;
  if (!isSpoken(spoken)) {
    throw new WayoutError({
      code: "cni-version",
      kind: "usage",
      doing: "reading the network configuration",
      said: `its cniVersion is ${version}; this plugin speaks ${CNI_VERSIONS.join(", ")}`,
      details: { config: version, supported: CNI_VERSIONS },
    });
  }
  const network = checkNetworkName(fields.string("name"));
  return { version: spoken, network, ipamType: fields.object("ipam")?.string("type") ?? "", fields, text };
}

function parseJson(text: string): Fields {
  let value: unknown;
  try {
    value = withUsualKeys(JSON.parse(text));
  } catch (error) {
    throw new WayoutError({
      code: "not-json",
      kind: "usage",
      doing: "reading the network configuration from standard input",
      said: text.trim() === "" ? "there is none" : refusalOf(text, error),
    });
  }
  return Fields.of(value);
}

/** In words of our own: those of the two engines differ. */
function refusalOf(text: string, error: unknown): string {
  return error instanceof SyntaxError ? jsonFault(text) : "it is nested too deeply";
}

/** The bridge's name alone, for commands that clean up. */
export function readBridgeName(fields: Fields): string {
  const name = fields.string("bridge") ?? "";
  if (name === "") return DEFAULT_BRIDGE;
  if (!isInterfaceName(name)) {
    fields.refuse("bridge", `"${name}" is no interface name (1 to 15 bytes, no / : % or white space)`);
  }
  return name;
}

/** @throws FieldError */
export function readConfiguration(header: NetworkHeader, args: CniArguments): NetworkConfiguration {
  const { version, network, fields, ipamType } = header;
  const flag = (key: string): boolean => fields.boolean(key) ?? false;
  const mtu = fields.integer("mtu", 0, MAX_MTU) ?? 0;
  const mac = readMac(fields, args);
  const isDefaultGateway = flag("isDefaultGateway");
  const waitsFor = fields.string("waitsFor") ?? "";
  if (waitsFor !== "" && !waitsFor.startsWith("/")) fields.refuse("waitsFor", "must be an absolute path");
  const configuration: NetworkConfiguration = {
    version,
    network,
    bridge: readBridgeName(fields),
    isGateway: flag("isGateway") || isDefaultGateway,
    isDefaultGateway,
    forceAddress: flag("forceAddress"),
    ...(mtu === 0 ? {} : { mtu }),
    hairpin: flag("hairpinMode"),
    promiscuous: flag("promiscMode"),
    vlan: fields.integer("vlan", 0, MAX_VLAN) ?? 0,
    vlanTrunk: readTrunk(fields),
    preserveDefaultVlan: flag("preserveDefaultVlan"),
    checkMacSpoofing: flag("macspoofchk"),
    duplicateAddressDetection: flag("enabledad"),
    disableContainerInterface: flag("disableContainerInterface"),
    portIsolation: flag("portIsolation"),
    ...(mac === undefined ? {} : { mac }),
    dns: readDns(fields.object("dns")),
    nat: readNat(fields),
    ...(waitsFor === "" ? {} : { waitsFor }),
  };
  refuseContradictions(fields, configuration, ipamType);
  return configuration;
}

function refuseContradictions(fields: Fields, configuration: NetworkConfiguration, ipamType: string): void {
  if (configuration.hairpin && configuration.promiscuous) {
    fields.refuse("hairpinMode", "and promiscMode cannot both be true");
  }
  if (configuration.disableContainerInterface && ipamType !== "") {
    fields.refuse(
      "disableContainerInterface",
      "cannot be true with ipam: a pod without an interface has no address",
    );
  }
}

/** The runtime's wish counts before the configuration's args, and both before CNI_ARGS. */
function readMac(fields: Fields, args: CniArguments): string | undefined {
  const places: readonly (readonly [string, string | undefined])[] = [
    ["runtimeConfig.mac", fields.object("runtimeConfig")?.string("mac")],
    ["args.cni.mac", fields.object("args")?.object("cni")?.string("mac")],
    ["CNI_ARGS MAC", args.mac],
  ];
  for (const [path, text] of places) if (text !== undefined && text !== "") return asMac(text, path);
  return undefined;
}

function asMac(text: string, path: string): string {
  let bytes: Uint8Array;
  try {
    bytes = macBytes(text);
  } catch (error) {
    throw new FieldError(path, messageOf(error));
  }
  if ((bytes[0]! & 1) === 1) throw new FieldError(path, `"${text}" is a multicast address`);
  return macText(bytes);
}

function readTrunk(fields: Fields): VlanRange[] {
  const ranges = fields.list("vlanTrunk", (value, path): VlanRange[] => {
    const item = Fields.of(value, path);
    const first = item.integer("minID", 1, MAX_VLAN);
    const last = item.integer("maxID", 1, MAX_VLAN);
    const id = item.integer("id", 1, MAX_VLAN);
    if (first === undefined && last !== undefined) item.refuse("minID", "is missing beside maxID");
    if (first !== undefined && last === undefined) item.refuse("maxID", "is missing beside minID");
    if (first !== undefined && last !== undefined && first > last) item.refuse("maxID", "is less than minID");
    return [
      ...(first === undefined || last === undefined ? [] : [{ first, last }]),
      ...(id === undefined ? [] : [{ first: id, last: id }]),
    ];
  });
  return ranges === undefined ? [] : mergeRanges(ranges.flat());
}

/** In order, without overlaps: a VLAN must not be added to a port twice. */
function mergeRanges(ranges: readonly VlanRange[]): VlanRange[] {
  const merged: VlanRange[] = [];
  for (const range of ranges.toSorted((a, b) => a.first - b.first)) {
    const before = merged.at(-1);
    if (before !== undefined && range.first <= before.last + 1) {
      merged[merged.length - 1] = { first: before.first, last: Math.max(before.last, range.last) };
    } else merged.push(range);
  }
  return merged;
}

/**
 * `ipMasq` translates both families; `masquerade: {v4, v6}` decides for one; `snat` gives a family fixed addresses
 * instead of the outgoing interface's.
 */
function readNat(fields: Fields): NatWish {
  const all = fields.boolean("ipMasq") ?? false;
  const masquerade = fields.object("masquerade");
  const fixed = readSnat(fields);
  const ports = readPorts(fields);
  const fullyRandom = fields.boolean("randomFully") ?? true;
  const translations = new Map<IpFamily, Translation>();
  for (const family of [4, 6] as const) {
    const snat = fixed.get(family);
    if (!(masquerade?.boolean(`v${family}`) ?? (all || snat !== undefined))) continue;
    translations.set(family, {
      ...(snat === undefined ? {} : { snat }),
      ...(ports === undefined ? {} : { ports }),
      fullyRandom,
    });
  }
  return {
    translations,
    nonMasqueradeCidrs:
      fields.list("nonMasqueradeCIDRs", (value, path) => cidrText(asCidr(value, path))) ?? [],
    backend: readBackend(fields),
  };
}

function readBackend(fields: Fields): NatBackendName {
  const name = fields.string("ipMasqBackend") ?? "";
  if (name === "") return DEFAULT_BACKEND;
  return (
    networkBackend(name) ?? fields.refuse("ipMasqBackend", `"${name}" is none of ${translating().join(", ")}`)
  );
}

/** The backend of that name; undefined for one that a network cannot have. */
export function networkBackend(name: unknown): NatBackendName | undefined {
  if (name === undefined) return undefined;
  for (const backend of translating()) if (backend === name) return backend;
  return undefined;
}

/** `"203.0.113.5"`, `"203.0.113.5-203.0.113.8"`, or a list with one of each family. */
function readSnat(fields: Fields): Map<IpFamily, { readonly first: string; readonly last: string }> {
  const found = new Map<IpFamily, { readonly first: string; readonly last: string }>();
  const value = fields.raw("snat");
  if (value === undefined) return found;
  for (const [index, item] of (Array.isArray(value) ? value : [value]).entries()) {
    const path = Array.isArray(value) ? `snat[${index}]` : "snat";
    const range = readAddressRange(asString(item, path), path);
    const family = ipFamily(range.first);
    if (found.has(family)) throw new FieldError(path, `is a second IPv${family} address or range`);
    found.set(family, range);
  }
  return found;
}

function readAddressRange(text: string, path: string): { readonly first: string; readonly last: string } {
  const parts = text.split("-").map((part) => {
    try {
      return canonicalIp(part.trim());
    } catch (error) {
      throw new FieldError(path, messageOf(error));
    }
  });
  const [first, last = first] = parts;
  if (first === undefined || last === undefined || parts.length > 2) {
    throw new FieldError(path, `"${text}" is no address and no range like 203.0.113.5-203.0.113.8`);
  }
  if (ipFamily(first) !== ipFamily(last) || ipNumber(first) > ipNumber(last)) {
    throw new FieldError(path, `the range ${text} ends before it begins`);
  }
  return { first, last };
}

/** `"32768-60999"`. */
function readPorts(fields: Fields): { readonly first: number; readonly last: number } | undefined {
  const text = fields.string("portRange") ?? "";
  if (text === "") return undefined;
  const [, first, last] = /^(\d{1,5})-(\d{1,5})$/.exec(text) ?? [];
  const ports = { first: Number(first), last: Number(last) };
  if (first === undefined || ports.first < 1 || ports.first > ports.last || ports.last > 65535) {
    fields.refuse("portRange", `"${text}" is no range of ports like 32768-60999`);
  }
  return ports;
}
