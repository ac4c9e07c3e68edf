/**
 * Intents as iptables rules, for one address family. For two networks, one of them with a fixed address:
 *
 *     *nat
 *     :WAYOUT-POSTROUTING - [0:0]
 *     :WAYOUT-1f0c… - [0:0]
 *     -A WAYOUT-POSTROUTING -o lo -j RETURN
 *     -A WAYOUT-POSTROUTING -d 224.0.0.0/4 -j RETURN
 *     -A WAYOUT-POSTROUTING -s 10.88.0.0/16 -i cni0 -m comment --comment "cni/blue" -g WAYOUT-1f0c…
 *     -A WAYOUT-1f0c… -d 10.88.0.0/16 -m comment --comment "cni/blue untranslated 10.88.0.0/16" -j RETURN
 *     -A WAYOUT-1f0c… -s 10.88.0.0/16 -i cni0 -m comment --comment "cni/blue source …" -j MASQUERADE --random-fully
 *     COMMIT
 *
 * (iptables refuses `-i` in POSTROUTING itself, and takes it in chains that POSTROUTING leads to.)
 * A network costs the same few rules whatever its number of pods. The most specific source stands first; `-g` makes
 * RETURN leave our chains altogether. The comments of the owner chains are the intents (see claim.ts). No ipset is
 * used: hosts that standardised on iptables do not all have it.
 */
import { familyOf, isDefaultCidr, type IpFamily } from "../../../address/ip.ts";
import { interfaceClaim, intentsOfClaims, sourceClaim, untranslatedClaim } from "../../claim.ts";
import { NEVER_TRANSLATED, type NatIntent, type NatSource } from "../../intent.ts";
import { byPrecedence } from "../../segment.ts";
import { iptablesChain } from "../../../naming/names.ts";
import { PORT_PROTOCOLS } from "../../../linux/ip-protocol.ts";

export const MAIN_CHAIN = "WAYOUT-POSTROUTING";

/** The jump that leads to our chains, as iptables-save prints it. */
export const JUMP = `-A POSTROUTING -m comment --comment "wayout: a way out for namespaces and pods" -j ${MAIN_CHAIN}`;

/** Rules of our chains, by chain, as iptables-save prints them. */
export type Ruleset = ReadonlyMap<string, readonly string[]>;

/** The part of an intent that concerns a family. Without sources, exclusions mean nothing and are left out too. */
function intentOfFamily(intent: NatIntent, family: IpFamily): NatIntent {
  const sources = intent.sources.filter(({ cidr }) => familyOf(cidr) === family);
  return {
    owner: intent.owner,
    sources,
    untranslated: sources.length === 0 ? [] : intent.untranslated.filter((cidr) => familyOf(cidr) === family),
  };
}

/** All chains of ours; empty when nobody wants anything of this family. */
export function rulesetOf(intents: readonly NatIntent[], family: IpFamily): Ruleset {
  const wanted = intents
    .map((intent) => intentOfFamily(intent, family))
    .filter((intent) => intent.sources.length > 0);
  const chains = new Map<string, readonly string[]>();
  if (wanted.length === 0) return chains;
  chains.set(MAIN_CHAIN, [
    `-A ${MAIN_CHAIN} -o lo -j RETURN`,
    ...NEVER_TRANSLATED[family].map((cidr) => `-A ${MAIN_CHAIN} -d ${cidr} -j RETURN`),
    ...byPrecedence(wanted, family).flatMap(({ owner, source }) =>
      interfaces(source).map(({ words }) =>
        rule(
          MAIN_CHAIN,
          match("-s", source.cidr) + words + (source.fromNode === true ? FROM_NODE : ""),
          owner,
          `-g ${iptablesChain(owner)}`,
        ),
      ),
    ),
  ]);
  for (const intent of wanted) chains.set(iptablesChain(intent.owner), ownerRules(intent, wanted, family));
  return chains;
}

function ownerRules(intent: NatIntent, all: readonly NatIntent[], family: IpFamily): string[] {
  const { owner, untranslated } = intent;
  const chain = iptablesChain(owner);
  return [
    ...untranslated.map((cidr) =>
      rule(chain, match("-d", cidr), untranslatedClaim(owner, cidr), "-j RETURN"),
    ),
    ...untranslatedByOthers(intent, all, family),
    ...byPrecedence([intent], family).flatMap(({ source }) => sourceRules(chain, owner, source)),
  ];
}

/** What others who have a source around one of this owner's want left untranslated is left so here, too. */
function untranslatedByOthers(intent: NatIntent, all: readonly NatIntent[], family: IpFamily): string[] {
  const own = byPrecedence([intent], family);
  const others = all.filter(({ owner }) => owner !== intent.owner);
  return byPrecedence(others, family).flatMap((other) => {
    const inside = own.filter(({ cidr }) => cidr.first >= other.cidr.first && cidr.last <= other.cidr.last);
    const destinations = others.find(({ owner }) => owner === other.owner)!.untranslated;
    return inside.flatMap(({ source }) =>
      commonEntrances(source, other.source).flatMap((words) =>
        destinations
          .filter((cidr) => !intent.untranslated.includes(cidr))
          .map((cidr) =>
            rule(
              iptablesChain(intent.owner),
              `${match("-s", source.cidr)}${match("-d", cidr)}${words}`,
              untranslatedClaim(other.owner, cidr),
              "-j RETURN",
            ),
          ),
      ),
    );
  });
}

/** Matches for the packets that both sources are asked about. */
function commonEntrances(
  { inInterfaces: inner, fromNode: innerOwn }: NatSource,
  { inInterfaces: outer, fromNode: outerOwn }: NatSource,
): string[] {
  if (innerOwn === true || outerOwn === true) return (inner ?? outer) === undefined ? [FROM_NODE] : [];
  if (inner === undefined || outer === undefined) {
    return (inner ?? outer)?.map((name) => ` -i ${name}`) ?? [""];
  }
  return inner.filter((name) => outer.includes(name)).map((name) => ` -i ${name}`);
}

/** One rule an interface and, with a port range, one a protocol that has ports and one for those that have none. */
function sourceRules(chain: string, owner: string, source: NatSource): string[] {
  const claim = sourceClaim(owner, source);
  return interfaces(source).flatMap(({ words, side, name }, index) => {
    const comment =
      index === 0 || side === undefined ? claim : interfaceClaim(owner, side, source.cidr, name);
    const where = match("-s", source.cidr) + words;
    const own = source.fromNode === true ? FROM_NODE : "";
    const withPorts =
      source.translation.ports === undefined
        ? []
        : PORT_PROTOCOLS.map((protocol) =>
            rule(chain, `${where} -p ${protocol}${own}`, comment, target(source, true)),
          );
    return [...withPorts, rule(chain, where + own, comment, target(source, false))];
  });
}

/** What the node itself sends, as iptables-save prints it: behind the protocol, before the comment. */
const FROM_NODE = " -m addrtype --src-type LOCAL";

interface InterfaceMatch {
  readonly words: string;
  readonly side?: "in" | "out";
  readonly name: string;
}

/** A source has interfaces of one side at most. */
function interfaces({ inInterfaces, outInterfaces }: NatSource): InterfaceMatch[] {
  const incoming = inInterfaces?.map((name) => ({ words: ` -i ${name}`, side: "in", name }) as const);
  const outgoing = outInterfaces?.map((name) => ({ words: ` -o ${name}`, side: "out", name }) as const);
  return incoming ?? outgoing ?? [{ words: "", name: "" }];
}

/** iptables-save leaves out a prefix that matches everything. */
function match(option: "-s" | "-d", cidr: string): string {
  return isDefaultCidr(cidr) ? "" : ` ${option} ${cidr}`;
}

function rule(chain: string, matches: string, comment: string, target: string): string {
  const quoted = comment.includes(" ") ? `"${comment}"` : comment;
  return `-A ${chain}${matches} -m comment --comment ${quoted} ${target}`;
}

function target(source: NatSource, withPorts: boolean): string {
  const { snat, ports, fullyRandom, drop } = source.translation;
  // It was dropped before it came here (iptables.ts); the rule remembers that it is wanted.
  if (drop === true) return "-j RETURN";
  const random = fullyRandom ? " --random-fully" : "";
  const range = withPorts && ports !== undefined ? `${ports.first}-${ports.last}` : undefined;
  if (snat === undefined) return `-j MASQUERADE${range === undefined ? "" : ` --to-ports ${range}`}${random}`;
  const family = familyOf(source.cidr);
  const addresses = snat.first === snat.last ? snat.first : `${snat.first}-${snat.last}`;
  const bracketed = family === 6 && range !== undefined ? `[${addresses}]` : addresses;
  return `-j SNAT --to-source ${bracketed}${range === undefined ? "" : `:${range}`}${random} --persistent`;
}

/** What iptables-save printed of the nat table, as far as it is ours. */
export interface SavedRuleset {
  readonly chains: Ruleset;
  /** How many rules of POSTROUTING lead to our main chain: one when all is well. */
  readonly jumps: number;
}

export function readSaved(text: string): SavedRuleset {
  const chains = new Map<string, string[]>();
  let jumps = 0;
  for (const printed of text.split("\n")) {
    // Versions differ in which single words they quote.
    const line = printed.replace(/--comment "([^" ]+)"/, "--comment $1");
    const declared = /^:(WAYOUT-\S+) /.exec(line)?.[1];
    if (declared !== undefined) chains.set(declared, []);
    const chain = /^-A (\S+)/.exec(line)?.[1];
    if (chain === "POSTROUTING" && line === JUMP) jumps++;
    else if (chain !== undefined) chains.get(chain)?.push(line);
  }
  return { chains, jumps };
}

/** The intents that the comments of our chains spell. An interface stands in its rule's own match as well. */
export function intentsOf(saved: SavedRuleset): NatIntent[] {
  const claims: string[] = [];
  for (const rules of saved.chains.values()) {
    for (const line of rules) {
      const claim = /--comment "([^"]*)"/.exec(line)?.[1]; // a claim is never a single word
      if (claim === undefined) continue;
      claims.push(claim);
      const [owner, kind, cidr] = claim.split(" ");
      if (owner === undefined || cidr === undefined || kind === "untranslated") continue;
      const [, side, name] = / -([io]) (\S+) /.exec(line) ?? [];
      if (name !== undefined) claims.push(interfaceClaim(owner, side === "i" ? "in" : "out", cidr, name));
    }
  }
  return intentsOfClaims(claims);
}

/** Input for iptables-restore --noflush that turns what is saved into what is wanted, in one commit. */
export function restoreText(wanted: Ruleset, saved: SavedRuleset): string {
  const gone = [...saved.chains.keys()].filter((chain) => !wanted.has(chain));
  const jump = JUMP.replace("-A POSTROUTING", "");
  const lines = ["*nat"];
  // Naming a chain of ours makes it when it is missing and empties it when it is there.
  for (const chain of [...wanted.keys(), ...gone]) lines.push(`:${chain} - [0:0]`);
  for (const rules of wanted.values()) lines.push(...rules);
  const surplus = wanted.size > 0 ? Math.max(saved.jumps - 1, 0) : saved.jumps;
  for (let count = 0; count < surplus; count++) lines.push(`-D POSTROUTING${jump}`);
  if (wanted.size > 0 && saved.jumps === 0) lines.push(`-I POSTROUTING 1${jump}`);
  lines.push(...gone.map((chain) => `-X ${chain}`), "COMMIT", "");
  return lines.join("\n");
}
