/**
 * One line of an intent as text, so that the kernel itself can remember who asked for what: as the comment of a set
 * element (nf_tables) or of a rule (iptables). Intents are read back from there; there is no file that could differ.
 *
 *     cni/blue source 10.88.0.0/16 masquerade fully-random
 *     policy source 10.1.0.0/16 snat 203.0.113.5-203.0.113.9 ports 1024-2047
 *     policy source 10.2.0.0/16 drop
 *     policy node 0.0.0.0/0 masquerade fully-random
 *     policy out 10.1.0.0/16 eth0
 *     cni/blue in 10.88.0.0/16 cni0
 *     cni/blue untranslated 10.88.0.0/16
 */
import { rethrowMistake } from "../error.ts";
import { isIp } from "../address/ip.ts";
import { parseCidr, type Cidr } from "../address/cidr.ts";
import { DROPPED, normalizedWith, type NatIntent, type NatSource, type Translation } from "./intent.ts";

/** `masquerade fully-random`, `snat 203.0.113.5 ports 1024-2047`, `drop`. */
export function translationText(translation: Translation): string {
  const { snat, ports, fullyRandom, drop } = translation;
  if (drop === true) return DROP_WORD;
  const words = ["masquerade"];
  if (snat !== undefined) {
    words[0] = `snat ${snat.first === snat.last ? snat.first : `${snat.first}-${snat.last}`}`;
  }
  if (ports !== undefined) words.push(`ports ${ports.first}-${ports.last}`);
  if (fullyRandom) words.push("fully-random");
  return words.join(" ");
}

const DROP_WORD = "drop";

/** The lines of a normalized intent. None is longer than 251 bytes, which both kernels' comments hold. */
export function claimsOf(intent: NatIntent): string[] {
  const { owner } = intent;
  return [
    ...intent.sources.flatMap((source) => [
      sourceClaim(owner, source),
      ...(source.inInterfaces ?? []).map((name) => interfaceClaim(owner, "in", source.cidr, name)),
      ...(source.outInterfaces ?? []).map((name) => interfaceClaim(owner, "out", source.cidr, name)),
    ]),
    ...intent.untranslated.map((cidr) => untranslatedClaim(owner, cidr)),
  ];
}

export function sourceClaim(owner: string, source: NatSource): string {
  // Of another kind, for versions that know none: they shall not take it for everybody's.
  const kind = source.fromNode === true ? NODE_KIND : "source";
  return `${owner} ${kind} ${source.cidr} ${translationText(source.translation)}`;
}

/** What the node itself sends. */
const NODE_KIND = "node";

export function interfaceClaim(owner: string, side: "in" | "out", cidr: string, name: string): string {
  return `${owner} ${side} ${cidr} ${name}`;
}

export function untranslatedClaim(owner: string, cidr: string): string {
  return `${owner} untranslated ${cidr}`;
}

/** The intents that these lines spell, sorted by owner. Lines that are no claim (another program's comment) are skipped. */
export function intentsOfClaims(lines: Iterable<string>): NatIntent[] {
  const drafts = new Map<string, { sources: Map<string, SourceDraft>; untranslated: string[] }>();
  const cidrs = new Map<string, Cidr | undefined>();
  const isCidr = (text: string): boolean => {
    if (!cidrs.has(text)) cidrs.set(text, cidrIn(text));
    return cidrs.get(text) !== undefined;
  };
  for (const line of lines) {
    const words = line.split(" ");
    const [owner, kind, cidr] = words;
    if (owner === undefined || kind === undefined || cidr === undefined || !isCidr(cidr)) continue;
    let draft = drafts.get(owner);
    if (draft === undefined) drafts.set(owner, (draft = { sources: new Map(), untranslated: [] }));
    const source = (): SourceDraft => {
      let found = draft.sources.get(cidr);
      if (found === undefined) draft.sources.set(cidr, (found = { in: [], out: [] }));
      return found;
    };
    if (kind === "untranslated") draft.untranslated.push(cidr);
    else if ((kind === "in" || kind === "out") && words[3] !== undefined) source()[kind].push(words[3]);
    else if (kind === "source" || kind === NODE_KIND) {
      const translation = parseTranslation(words.slice(3));
      if (translation === undefined) continue;
      source().translation = translation;
      if (kind === NODE_KIND) source().fromNode = true;
    }
  }
  const intents: NatIntent[] = [];
  for (const [owner, draft] of drafts) {
    const sources = [...draft.sources].flatMap(([cidr, { translation, fromNode, ...sides }]) =>
      translation === undefined
        ? []
        : [
            {
              cidr,
              translation,
              inInterfaces: sides.in,
              outInterfaces: sides.out,
              ...(fromNode === undefined ? {} : { fromNode }),
            },
          ],
    );
    try {
      const intent = { owner, sources, untranslated: draft.untranslated };
      intents.push(normalizedWith(intent, (text) => cidrs.get(text)!));
    } catch (error) {
      rethrowMistake(error);
      // A comment that was edited no longer spells an intent; verify then misses the owner's claims and says so.
    }
  }
  return intents.sort((a, b) => (a.owner < b.owner ? -1 : 1));
}

interface SourceDraft {
  translation?: Translation;
  fromNode?: true;
  readonly in: string[];
  readonly out: string[];
}

function cidrIn(text: string): Cidr | undefined {
  try {
    return parseCidr(text);
  } catch (error) {
    rethrowMistake(error);
    return undefined;
  }
}

function parseTranslation(words: readonly string[]): Translation | undefined {
  const rest = [...words];
  const kind = rest.shift();
  if (kind === DROP_WORD) return rest.length === 0 ? DROPPED : undefined;
  if (kind !== "masquerade" && kind !== "snat") return undefined;
  let draft: Translation = { fullyRandom: false };
  if (kind === "snat") {
    const [first, last = first] = rest.shift()?.split("-") ?? [];
    if (first === undefined || last === undefined || !isIp(first) || !isIp(last)) return undefined;
    draft = { ...draft, snat: { first, last } };
  }
  if (rest[0] === "ports") {
    const match = /^(\d+)-(\d+)$/.exec(rest[1] ?? "");
    if (match === null) return undefined;
    draft = { ...draft, ports: { first: Number(match[1]), last: Number(match[2]) } };
    rest.splice(0, 2);
  }
  if (rest[0] === "fully-random") {
    draft = { ...draft, fullyRandom: true };
    rest.shift();
  }
  return rest.length === 0 ? draft : undefined;
}
