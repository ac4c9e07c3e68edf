/**
 * What an owner wants of NAT, in plain values: no rule, chain or program is named here. A backend turns it into a
 * ruleset (see backend.ts).
 */
import { BROADCAST, MULTICAST } from "../address/special-purpose.ts";
import { AddressError, canonicalIp, ipFamily, ipNumber, type IpFamily, prefixFamily } from "../address/ip.ts";
import { cidrText, parseCidr } from "../address/cidr.ts";
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

/** Intents in that form: they are values, and a policy of ten thousand prefixes is asked for at every comparison. */
const normalized = new WeakSet<NatIntent>();

/**
 * The same intent in the one form that backends compare: checked, addresses canonical, duplicates gone, everything
 * in a fixed order.
 * @throws WayoutError `bad-nat-intent` naming the field
 */
export function normalizeIntent(intent: NatIntent): NatIntent {
  if (normalized.has(intent)) return intent;
  const { owner } = intent;
  if (!/^[A-Za-z0-9][A-Za-z0-9/._-]{0,79}$/.test(owner)) {
    refuse(owner, "owner", "must be 1 to 80 letters, digits or / . _ - and begin with a letter or digit");
  }
  const sources = new Map<string, NatSource>();
  for (const [index, source] of intent.sources.entries()) {
    const normal = normalizeSource(owner, `sources[${index}]`, source);
    const twin = sources.get(normal.cidr);
    if (twin !== undefined && JSON.stringify(twin) !== JSON.stringify(normal)) {
      refuse(owner, `sources[${index}].cidr`, `${normal.cidr} is listed twice with different translations`);
    }
    sources.set(normal.cidr, normal);
  }
  const untranslated = intent.untranslated.map((cidr, index) =>
    canonicalCidr(owner, `untranslated[${index}]`, cidr),
  );
  const normal = {
    owner,
    sources: sortedByCidr([...sources.values()], ({ cidr }) => cidr),
    untranslated: sortedByCidr([...new Set(untranslated)], (cidr) => cidr),
  };
  normalized.add(normal);
  return normal;
}

/** These intents with the owner's replaced, or added; sorted, so that equal intents make equal tables. */
export function replacing(intents: readonly NatIntent[], intent: NatIntent): NatIntent[] {
  const all = [...intents.filter(({ owner }) => owner !== intent.owner), intent];
  return all.sort((a, b) => (a.owner < b.owner ? -1 : 1));
}

function canonicalCidr(owner: string, path: string, text: string): string {
  try {
    return cidrText(parseCidr(text));
  } catch (error) {
    if (error instanceof AddressError) return refuse(owner, path, error.message);
    throw error;
  }
}

function normalizeSource(owner: string, path: string, source: NatSource): NatSource {
  const cidr = canonicalCidr(owner, `${path}.cidr`, source.cidr);
  const { snat, ports, fullyRandom, drop } = source.translation;
  if (drop === true && (snat !== undefined || ports !== undefined))
    refuse(owner, `${path}.translation.drop`, "what is dropped has no address and no ports");
  if (snat !== undefined) checkSnat(owner, `${path}.translation.snat`, snat, prefixFamily(cidr));
  if (ports !== undefined) checkPorts(owner, `${path}.translation.ports`, ports);
  const incoming = interfaceNames(owner, `${path}.inInterfaces`, source.inInterfaces);
  const out = interfaceNames(owner, `${path}.outInterfaces`, source.outInterfaces);
  if (incoming.length > 0 && out.length > 0) {
    refuse(owner, `${path}.outInterfaces`, "cannot be given beside inInterfaces");
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

/** IPv4 before IPv6, then by address, then the shorter prefix first. Each text is parsed once, not at each comparison. */
function sortedByCidr<T>(items: readonly T[], textOf: (item: T) => string): T[] {
  return items
    .map((item) => ({ item, cidr: parseCidr(textOf(item)) }))
    .sort(({ cidr: a }, { cidr: b }) => {
      if (a.family !== b.family) return a.family - b.family;
      if (a.first !== b.first) return a.first < b.first ? -1 : 1;
      return a.prefixLength - b.prefixLength;
    })
    .map(({ item }) => item);
}
