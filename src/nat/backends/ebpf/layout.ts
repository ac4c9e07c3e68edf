/**
 * What stands in the maps of the programs, in bytes; program/maps.h says the same in C. Numbers are in the machine's order,
 * addresses and ports in that of the network.
 */
import { ipBytes, type IpFamily } from "../../../address/ip.ts";

export const KEY_BYTES = { prefix: 24, pair: 8 } as const;
export const SETTINGS_BYTES = 80;

/** Where the fields of struct settings stand; timeouts are sixteen numbers of seconds. */
const SETTINGS = { base: 0, zones: 4, seconds: 16 } as const;

/** enum tcp_state, and what has a time of its own beside it: the places in `seconds`. */
export const TIMEOUTS = [
  "none",
  "syn_sent",
  "syn_recv",
  "established",
  "fin_wait",
  "close_wait",
  "last_ack",
  "time_wait",
  "close",
  "udp",
  "udp_stream",
  "icmp",
  "generic",
] as const;

/** struct flow and struct tuple: where their fields stand; ports are in network order. */
export const FLOW = {
  expires: 0,
  life: 8,
  interface: 12,
  leaving: 16,
  arriving: 56,
  kind: 96,
  state: 97,
  answered: 99,
  packets: 112,
  bytes: 128,
  /** Of the two lowest bits of `life`. */
  live: 2,
  /** Of `kind`. */
  translated: 1,
  tuple: { source: 0, destination: 16, sourcePort: 32, destinationPort: 34, protocol: 36, family: 37 },
} as const;

/** struct flow: how often its place was given away, and whether it is in use. */
export function lifeOf(record: Uint8Array): number {
  return new DataView(record.buffer, record.byteOffset).getUint32(FLOW.life, true);
}

/** Whether a record is one of a flow that goes on. @param now nanoseconds of CLOCK_MONOTONIC */
export function isLivingFlow(record: Uint8Array, now: number): boolean {
  const view = new DataView(record.buffer, record.byteOffset, record.byteLength);
  const expires = Number(view.getBigUint64(FLOW.expires, true));
  return (view.getUint32(FLOW.life, true) & 3) === FLOW.live && expires >= now;
}

/** enum count: what the programs count, on each processor by itself. */
export const COUNTS = [
  "begun",
  "begun outside",
  "taken back",
  "dropped: the table of flows is full",
  "dropped: no free port",
  "dropped: no flow begins with such a packet",
  "dropped: a later fragment without its first",
  "dropped: a protocol that cannot be translated",
  "dropped: the link has no address",
  "dropped: malformed",
  "left by the fast path",
  "arrived by the fast path",
] as const;

const TRANSLATION_FLAGS = { masquerade: 1, snat: 2, fullyRandom: 4, bound: 8, ports: 16 } as const;

export interface TranslationValue {
  readonly first?: string;
  readonly last?: string;
  readonly ports?: { readonly first: number; readonly last: number };
  readonly fullyRandom: boolean;
  readonly bound: boolean;
}

/** Zone 0: packets by whichever link; 1: everybody who is a source anywhere; from 2 on: links that sources name. */
export const ZONES = { any: 1, first: 2 } as const;

export function numberKey(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

export function pairKey(first: number, second: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(first, second).buffer);
}

/** struct prefix: how many bits count (the set's 32 among them), the set, the address. */
export function prefixKey(set: number, network: string, prefixLength: number): Uint8Array {
  const key = new Uint8Array(KEY_BYTES.prefix);
  const view = new DataView(key.buffer);
  view.setUint32(0, 32 + prefixLength, true);
  view.setUint32(4, set, true);
  key.set(ipBytes(network), 8);
  return key;
}

/** The set that a key of any of the maps of a policy begins with. */
export function setOf(key: Uint8Array): number {
  const view = new DataView(key.buffer, key.byteOffset);
  return view.getUint32(key.length === KEY_BYTES.prefix ? 4 : 0, true);
}

export function addressBytes(address: string): Uint8Array {
  const bytes = new Uint8Array(16);
  bytes.set(ipBytes(address));
  return bytes;
}

/** Sets of a family follow that of the zone. */
export function familyIndex(family: IpFamily): 0 | 1 {
  return family === 6 ? 1 : 0;
}

/** struct translation. */
export function translationValue(translation: TranslationValue): Uint8Array {
  const bytes = new Uint8Array(48);
  const view = new DataView(bytes.buffer);
  const { first, last, ports, fullyRandom, bound } = translation;
  if (first !== undefined) bytes.set(addressBytes(first), 0);
  if (last !== undefined) bytes.set(addressBytes(last), 16);
  const flags =
    (first === undefined ? TRANSLATION_FLAGS.masquerade : TRANSLATION_FLAGS.snat) |
    (fullyRandom ? TRANSLATION_FLAGS.fullyRandom : 0) |
    (bound ? TRANSLATION_FLAGS.bound : 0) |
    (ports === undefined ? 0 : TRANSLATION_FLAGS.ports);
  view.setUint32(32, flags, true);
  view.setUint16(36, ports?.first ?? 0, true);
  view.setUint16(38, ports?.last ?? 0, true);
  return bytes;
}

export interface SettingsValue {
  readonly base: number;
  readonly hasZones: boolean;
  readonly seconds: readonly number[];
}

export function settingsValue({ base, hasZones, seconds }: SettingsValue): Uint8Array {
  const bytes = new Uint8Array(SETTINGS_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(SETTINGS.base, base, true);
  view.setUint32(SETTINGS.zones, hasZones ? 1 : 0, true);
  for (const [index, value] of seconds.entries()) view.setUint32(SETTINGS.seconds + index * 4, value, true);
  return bytes;
}

export function baseOf(settings: Uint8Array): number {
  return new DataView(settings.buffer, settings.byteOffset).getUint32(SETTINGS.base, true);
}

/** program/fast.h: the keys of `leases`, and struct lease. */
export const FAST_PATH = {
  keys: { granted: 0, turn: 1, heldOff: 2 },
  lease: { until: 0, turn: 8, uplinks: 16 },
  leaseBytes: 32,
  mostUplinks: 4,
} as const;

/** struct neighbour. */
export function neighbourKey(link: number, mac: string): Uint8Array {
  const key = new Uint8Array(12);
  new DataView(key.buffer).setUint32(0, link, true);
  key.set(Uint8Array.fromHex(mac.replaceAll(":", "")), 4);
  return key;
}
