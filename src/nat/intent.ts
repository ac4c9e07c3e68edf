/**
 * What an owner wants of NAT, in plain values: no rule, chain or program is named here. A backend turns it into a
 * ruleset (see backend.ts).
 */
import { BROADCAST, MULTICAST } from "../address/special-purpose.ts";
import { AddressError, canonicalIp, ipFamily, ipNumber, type IpFamily } from "../address/ip.ts";
import { cidrText, parseCidr, type Cidr } from "../address/cidr.ts";
import { rethrowMistake, WayoutError } from "../error.ts";
import type { PortRange } from "../linux/ip-protocol.ts";
import { utf8Length } from "../platform/bytes.ts";

/** An inclusive range of addresses; `first` equals `last` for a single one. Canonical text. */
export interface AddressRange {
  readonly first: string;
  readonly last: string;
}

/** How the source of a new connection is rewritten. */
export interface Translation {
  /**
   * Absent: MASQUERADE, the address that the outgoing interface has at that moment. Present: SNAT to these fixed
   * addresses; with several, a client keeps the one it was given (`persistent`).
   */
  readonly snat?: AddressRange;
  /** Source ports to use on the outside, 1 to 65535. Absent: the kernel's choice, which keeps the client's port when it is free. */
  readonly ports?: PortRange;
  /** Whether the port is chosen at random (NF_NAT_RANGE_PROTO_RANDOM_FULLY), which avoids two flows racing for one. */
  readonly fullyRandom: boolean;
  /** What would be translated is dropped instead: it shall leave under no address that the node has. Beside nothing else. */
  readonly drop?: true;
}

/** It does not leave: the address that it should have is not here. */
export const DROPPED: Translation = { fullyRandom: false, drop: true };

/** Packets from `cidr` are translated when they leave. */
export interface NatSource {
  /** Canonical prefix without host bits; `0.0.0.0/0` means everybody. */
  readonly cidr: string;
  readonly translation: Translation;
  /** Translate only what came to the node by one of these interfaces. Absent: by any, and what the node itself sends. */
  readonly inInterfaces?: readonly string[];
  /** Translate only what leaves by one of these interfaces. Absent: by any but loopback. Not beside `inInterfaces`. */
  readonly outInterfaces?: readonly string[];
  /** Translate only what the node itself sends: what has one of its addresses. Not beside the interfaces. */
  readonly fromNode?: true;
}

/**
 * What one owner wants. Several owners live beside each other; where their sources overlap, the most specific prefix
 * decides as whom a packet leaves, and among equal prefixes the owner whose name sorts first. What any of them wants
 * left untranslated is left so.
 */
export interface NatIntent {
  /** Who wants it: `attach`, `cni/NETWORK`, `policy`. Letters, digits and `/ . _ -`, at most 80 characters. */
  readonly owner: string;
  readonly sources: readonly NatSource[];
  /**
   * Destinations that keep seeing the real source (ip-masq-agent calls them nonMasqueradeCIDRs). Multicast, limited
   * broadcast and loopback are never translated and need not be listed.
   */
  readonly untranslated: readonly string[];
}

/** Destinations no backend ever translates: multicast, limited broadcast. */
export const NEVER_TRANSLATED = {
  4: [MULTICAST[4], `${BROADCAST}/32`],
  6: [MULTICAST[6]],
} as const;

/**
 * The plain case: these networks reach everything outside themselves by MASQUERADE. Link-local destinations as well:
 * clouds have their metadata service at 169.254.169.254, which knows no way back to a pod.
 */
export function masqueradeIntent(
  owner: string,
  cidrs: readonly string[],
  options: { readonly untranslated?: readonly string[]; readonly translation?: Translation } = {},
): NatIntent {
  const translation = options.translation ?? { fullyRandom: true };
  return normalizeIntent({
    owner,
    sources: cidrs.map((cidr) => ({ cidr, translation })),
    untranslated: [...cidrs, ...(options.untranslated ?? [])],
  });
}

/** An intent that cannot be carried out. `path` names the field: `sources[1].translation.snat`. */
function refuse(owner: string, path: string, said: string): never {
  throw new WayoutError({
    code: "bad-nat-intent",
    kind: "usage",
    doing: `checking what ${owner === "" ? "an owner without a name" : owner} wants of NAT`,
    said: `${path}: ${said}`,
    details: { owner, path },
  });
}

/** The prefixes of an intent as numbers, in its order. */
export interface IntentCidrs {
  readonly sources: readonly Cidr[];
  readonly untranslated: readonly Cidr[];
}

/** Every address of a family. */
export const EVERYWHERE: Readonly<Record<IpFamily, string>> = { 4: "0.0.0.0/0", 6: "::/0" };

/** What the node itself sends, whichever of its addresses it has; a source that is everybody has it already. */
export function nodeSources(
  families: readonly IpFamily[],
  sources: readonly NatSource[],
  translation: Translation,
): NatSource[] {
  return families
    .map((family) => EVERYWHERE[family])
    .filter((cidr) => !sources.some((one) => one.cidr === cidr))
    .map((cidr) => ({ cidr, translation, fromNode: true }));
}

/** Whose packets are forwarded: all but those of the node itself. */
export function podSources({ sources }: NatIntent): readonly NatSource[] {
  return sources.filter(({ fromNode }) => fromNode !== true);
}

/** Intents in that form: they are values, and a policy of ten thousand prefixes is asked for at every comparison. */
const normalized = new WeakSet<NatIntent>();
const numbers = new WeakMap<NatIntent, IntentCidrs>();

/** Parsed once an intent, however often it is asked for. @throws AddressError for an intent that was not normalized */
export function cidrsOf(intent: NatIntent): IntentCidrs {
  let known = numbers.get(intent);
  if (known === undefined) {
    known = {
      sources: intent.sources.map(({ cidr }) => parseCidr(cidr)),
      untranslated: intent.untranslated.map((cidr) => parseCidr(cidr)),
    };
    numbers.set(intent, known);
  }
  return known;
}

/**
 * The same intent in the one form that backends compare: checked, addresses canonical, duplicates gone, everything
 * in a fixed order.
 * @throws WayoutError `bad-nat-intent` naming the field
 */
export function normalizeIntent(intent: NatIntent): NatIntent {
  return normalized.has(intent) ? intent : normalizedWith(intent, parseCidr);
}

/** The same for who has parsed the prefixes already. */
export function normalizedWith(intent: NatIntent, parse: (text: string) => Cidr): NatIntent {
  const { owner } = intent;
  if (!/^[A-Za-z0-9][A-Za-z0-9/._-]{0,79}$/.test(owner)) {
    refuse(owner, "owner", "must be 1 to 80 letters, digits or / . _ - and begin with a letter or digit");
  }
  const sources = new Map<string, Numbered<NatSource>>();
  for (const [index, source] of intent.sources.entries()) {
    const cidr = parsed(owner, () => `sources[${index}].cidr`, source.cidr, parse);
    const normal = normalizeSource(owner, `sources[${index}]`, source, cidr);
    const twin = sources.get(normal.cidr)?.item;
    if (twin !== undefined && JSON.stringify(twin) !== JSON.stringify(normal)) {
      refuse(owner, `sources[${index}].cidr`, `${normal.cidr} is listed twice with different translations`);
    }
    sources.set(normal.cidr, { item: normal, cidr });
  }
  const untranslated = new Map<string, Numbered<string>>();
  for (const [index, text] of intent.untranslated.entries()) {
    const cidr = parsed(owner, () => `untranslated[${index}]`, text, parse);
    const item = cidrText(cidr);
    untranslated.set(item, { item, cidr });
  }
  const [kept, left] = [inOrder([...sources.values()]), inOrder([...untranslated.values()])];
  const normal = {
    owner,
    sources: kept.map(({ item }) => item),
    untranslated: left.map(({ item }) => item),
  };
  normalized.add(normal);
  numbers.set(normal, {
    sources: kept.map(({ cidr }) => cidr),
    untranslated: left.map(({ cidr }) => cidr),
  });
  return normal;
}

const texts = new WeakMap<NatIntent, string>();

/** Equal for intents that are equal, once they are normalized; written once an intent. */
export function intentText(intent: NatIntent): string {
  let text = texts.get(intent);
  if (text === undefined) texts.set(intent, (text = JSON.stringify(intent)));
  return text;
}

/** These intents with the owner's replaced, or added; sorted, so that equal intents make equal tables. */
export function replacing(intents: readonly NatIntent[], intent: NatIntent): NatIntent[] {
  const all = [...intents.filter(({ owner }) => owner !== intent.owner), intent];
  return all.sort((a, b) => (a.owner < b.owner ? -1 : 1));
}

function parsed(owner: string, path: () => string, text: string, parse: (text: string) => Cidr): Cidr {
  try {
    return parse(text);
  } catch (error) {
    if (error instanceof AddressError) return refuse(owner, path(), error.message);
    throw error;
  }
}

function normalizeSource(owner: string, path: string, source: NatSource, numbered: Cidr): NatSource {
  const cidr = cidrText(numbered);
  const { snat, ports, fullyRandom, drop } = source.translation;
  if (drop === true && (snat !== undefined || ports !== undefined))
    refuse(owner, `${path}.translation.drop`, "what is dropped has no address and no ports");
  if (snat !== undefined) checkSnat(owner, `${path}.translation.snat`, snat, numbered.family);
  if (ports !== undefined) checkPorts(owner, `${path}.translation.ports`, ports);
  const incoming = interfaceNames(owner, `${path}.inInterfaces`, source.inInterfaces);
  const out = interfaceNames(owner, `${path}.outInterfaces`, source.outInterfaces);
  if (incoming.length > 0 && out.length > 0) {
    refuse(owner, `${path}.outInterfaces`, "cannot be given beside inInterfaces");
  }
  if (source.fromNode === true && (incoming.length > 0 || out.length > 0 || drop === true)) {
    refuse(
      owner,
      `${path}.fromNode`,
      "what the node itself sends is translated by whichever interface it leaves",
    );
  }
  return {
    cidr,
    translation:
      drop === true
        ? DROPPED
        : {
            ...(snat === undefined
              ? {}
              : { snat: { first: canonicalIp(snat.first), last: canonicalIp(snat.last) } }),
            ...(ports === undefined ? {} : { ports: { first: ports.first, last: ports.last } }),
            fullyRandom,
          },
    ...(incoming.length === 0 ? {} : { inInterfaces: incoming }),
    ...(out.length === 0 ? {} : { outInterfaces: out }),
    ...(source.fromNode === true ? { fromNode: true } : {}),
  };
}

function interfaceNames(owner: string, path: string, names: readonly string[] = []): string[] {
  const bad = names.find((name) => !isPlainInterfaceName(name));
  if (bad !== undefined) {
    refuse(owner, path, `"${bad}" is no interface name (1 to 15 bytes, no / or white space)`);
  }
  return [...new Set(names)].sort();
}

function checkSnat(owner: string, path: string, snat: AddressRange, family: IpFamily): void {
  for (const address of [snat.first, snat.last]) {
    let given: IpFamily;
    try {
      given = ipFamily(address);
    } catch (error) {
      rethrowMistake(error);
      return refuse(owner, path, `"${address}" is not an IP address`);
    }
    if (given !== family) {
      refuse(owner, path, `${address} is an IPv${given} address, but the source is an IPv${family} network`);
    }
  }
  if (ipNumber(snat.first) > ipNumber(snat.last)) {
    refuse(owner, path, `the range ${snat.first}-${snat.last} ends before it begins`);
  }
}

function checkPorts(owner: string, path: string, ports: PortRange): void {
  for (const port of [ports.first, ports.last]) {
    if (!Number.isInteger(port) || port < 1 || port > 65535) {
      refuse(owner, path, `${port} is no port (1 to 65535)`);
    }
  }
  if (ports.first > ports.last) {
    refuse(owner, path, `the range ${ports.first}-${ports.last} ends before it begins`);
  }
}

/** As the kernel has it (network/interface-name.ts), and without what iptables would read as more than a name: quotes and wildcards. */
export function isPlainInterfaceName(name: string): boolean {
  return /^[^\s/:%"'\\+*]{1,15}$/.test(name) && utf8Length(name) <= 15 && name !== "." && name !== "..";
}

interface Numbered<T> {
  readonly item: T;
  readonly cidr: Cidr;
}

/** IPv4 before IPv6, then by address, then the shorter prefix first. */
function inOrder<T>(items: Numbered<T>[]): Numbered<T>[] {
  return items.sort(({ cidr: a }, { cidr: b }) => {
    if (a.family !== b.family) return a.family - b.family;
    if (a.first !== b.first) return a.first < b.first ? -1 : 1;
    return a.prefixLength - b.prefixLength;
  });
}
