/** NAT statements of rules: `masquerade({ fullyRandom: true })`, `snat("203.0.113.5", { ports: "1024-65535" })`. */
import { familyOf } from "../../address/ip.ts";
import { datatypeNamed, intervalHex, type Datatype } from "./datatypes.ts";
import type { NAT_FLAGS } from "../netfilter.ts";
import type { NAT_TYPES } from "./enumerations.ts";
import type { Expression } from "./expressions.ts";
import { asList, loadAll, type Selector } from "./match-builder.ts";
import { NFT_REG_1, registerAt, registerWord } from "./registers.ts";

export interface NatOptions {
  /** Ports to choose from: `1024-65535`, or one. */
  readonly ports?: string | number;
  readonly random?: boolean;
  readonly fullyRandom?: boolean;
  readonly persistent?: boolean;
}

function natFlags(options: NatOptions, ...more: (keyof typeof NAT_FLAGS)[]): (keyof typeof NAT_FLAGS)[] {
  const flags: (keyof typeof NAT_FLAGS)[] = [...more];
  if (options.ports !== undefined) flags.push("proto-specified");
  if (options.random === true) flags.push("random");
  if (options.persistent === true) flags.push("persistent");
  if (options.fullyRandom === true) flags.push("fully-random");
  return flags;
}

/** Loads the two ends of a range into two registers; one when they are equal. */
function loadRange(type: Datatype, range: string | number, registers: readonly [number, number]) {
  const { first, last } = intervalHex(type, range);
  const expressions: Expression[] = [{ kind: "immediate", dreg: registers[0], data: { value: first } }];
  if (first !== last) expressions.push({ kind: "immediate", dreg: registers[1], data: { value: last } });
  return { expressions, min: registers[0], max: first === last ? undefined : registers[1] };
}

function loadPorts(options: NatOptions, registers: readonly [number, number]) {
  if (options.ports === undefined) return undefined;
  return loadRange(datatypeNamed("inet_service")!, options.ports, registers);
}

/** `masquerade to :1024-65535 random,persistent` */
export function masquerade(options: NatOptions = {}): Expression[] {
  const ports = loadPorts(options, [NFT_REG_1, registerAt(4)]);
  const flags = natFlags(options);
  return [
    ...(ports?.expressions ?? []),
    {
      kind: "masq",
      ...(flags.length === 0 ? {} : { flags }),
      ...(ports === undefined ? {} : { sregProtoMin: ports.min }),
      ...(ports?.max === undefined ? {} : { sregProtoMax: ports.max }),
    },
  ];
}

function nat(type: keyof typeof NAT_TYPES, addresses: string, options: NatOptions): Expression[] {
  const family = familyOf(addresses) === 6 ? "ip6" : "ip";
  const addressType = datatypeNamed(family === "ip" ? "ipv4_addr" : "ipv6_addr")!;
  const address = loadRange(addressType, addresses, [registerAt(0), registerAt(4)]);
  const ports = loadPorts(options, [registerAt(8), registerAt(12)]);
  const flags = natFlags(options, "map-ips");
  return [
    ...address.expressions,
    ...(ports?.expressions ?? []),
    {
      kind: "nat",
      type,
      family,
      sregAddrMin: address.min,
      ...(address.max === undefined ? {} : { sregAddrMax: address.max }),
      ...(ports === undefined ? {} : { sregProtoMin: ports.min }),
      ...(ports?.max === undefined ? {} : { sregProtoMax: ports.max }),
      flags,
    },
  ];
}

/** `snat ip to 203.0.113.5:1024-65535 random`; the address, or a range `203.0.113.5-203.0.113.9`, tells the family. */
export function snat(addresses: string, options: NatOptions = {}): Expression[] {
  return nat("snat", addresses, options);
}

/** `dnat ip to …` */
export function dnat(addresses: string, options: NatOptions = {}): Expression[] {
  return nat("dnat", addresses, options);
}

export interface NatMapOptions extends NatOptions {
  /** What the map is asked for. */
  readonly key: Selector | readonly Selector[];
  readonly map: string;
  readonly family: "ip" | "ip6";
  /** The map's data are ranges of addresses (`dataInterval`). */
  readonly interval?: boolean;
  /** The map's data bring the ports too: `ipv4_addr . inet_service`. */
  readonly withPorts?: boolean;
}

/** `snat ip to ip saddr map @name`: a packet whose key is not in the map is left alone. */
export function snatByMap(options: NatMapOptions): Expression[] {
  const ports = options.withPorts === true ? undefined : loadPorts(options, [registerAt(8), registerAt(12)]);
  return [
    ...loadAll(asList(options.key)),
    { kind: "lookup", set: options.map, sreg: NFT_REG_1, dreg: NFT_REG_1, flags: [] },
    ...(ports?.expressions ?? []),
    {
      kind: "nat",
      type: "snat",
      family: options.family,
      ...mapRegisters(options),
      ...(ports === undefined ? {} : { sregProtoMin: ports.min }),
      ...(ports?.max === undefined ? {} : { sregProtoMax: ports.max }),
      flags: natFlags(
        options,
        "map-ips",
        ...(options.withPorts === true ? (["proto-specified"] as const) : []),
      ),
    },
  ];
}

/** Where a map's data lie, once loaded: address, port, and for a range both once more. */
function mapRegisters({ family, interval, withPorts }: NatMapOptions) {
  const port = registerWord(NFT_REG_1) + (family === "ip" ? 1 : 4);
  const second = withPorts === true ? port + 1 : port;
  const secondPort = second + port - registerWord(NFT_REG_1);
  return {
    sregAddrMin: NFT_REG_1,
    ...(withPorts === true ? { sregProtoMin: registerAt(port) } : {}),
    ...(interval === true ? { sregAddrMax: registerAt(second) } : {}),
    ...(interval === true && withPorts === true ? { sregProtoMax: registerAt(secondPort) } : {}),
  };
}
