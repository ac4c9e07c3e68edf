/**
 * A backend that is none of wayout's own, to hold the seam open: tables `ip plain` and `ip6 plain`, one rule a source,
 * written by nft(8). It lies in this folder alone and is known by one row (row.ts).
 *
 *     table ip plain {
 *       chain claims { continue comment "cni/blue source 10.9.0.0/24 masquerade" }
 *       chain seal { continue comment "HASH OF WHAT WAS WRITTEN HASH OF HOW nft LISTS IT" }
 *       chain postrouting {
 *         type nat hook postrouting priority 97
 *         ip saddr 10.9.0.0/24 ip daddr 10.9.0.0/24 return
 *         ip saddr 10.9.0.0/24 masquerade
 *       }
 *     }
 */
import { WayoutError } from "../../../src/error.ts";
import { NetworkNamespace } from "../../../src/kernel/namespace.ts";
import {
  MISSING,
  THERE,
  type AppliedNat,
  type BackendOptions,
  type NatBackend,
  type NatDrift,
} from "../../../src/nat/backend.ts";
import { claimsOf, intentsOfClaims } from "../../../src/nat/claim.ts";
import {
  NEVER_TRANSLATED,
  normalizeIntent,
  type NatIntent,
  type NatSource,
} from "../../../src/nat/intent.ts";
import { withNatLock } from "../../../src/nat/lock.ts";
import { byPrecedence, type OwnedSource } from "../../../src/nat/segment.ts";

export const TABLE = "plain";
export const PRIORITY = 97;
/** What it says where there is no nft(8). */
export const LACK = "no-plain";
const FAMILIES = { 4: "ip", 6: "ip6" } as const;
const PORT_PROTOCOLS = ["tcp", "udp", "sctp", "dccp"] as const;

export class PlainNat implements NatBackend {
  readonly name = "plain";
  readonly #namespace: NetworkNamespace;
  readonly #owned: boolean;

  constructor({ namespace }: BackendOptions = {}) {
    this.#owned = namespace === undefined;
    this.#namespace = namespace ?? NetworkNamespace.current();
  }

  apply(intent: NatIntent): AppliedNat {
    const wanted = normalizeIntent(intent);
    return withNatLock(this.#namespace, `writing the NAT rules of ${wanted.owner}`, () => {
      const drifts = this.verify(wanted);
      if (drifts.length === 0) return { changed: false, drifts };
      const before = this.intents();
      this.#write(this.#with(wanted));
      return { changed: true, drifts, before };
    });
  }

  verify(intent: NatIntent): NatDrift[] {
    const text = rulesText(this.#with(normalizeIntent(intent)));
    const object = `table ip ${TABLE}, table ip6 ${TABLE}`;
    const listed = this.#list();
    if (listed === undefined) return [{ object, expected: THERE, found: MISSING }];
    const [written, seen] = /"([0-9a-f]+) ([0-9a-f]+)"/.exec(listed)?.slice(1) ?? [];
    if (written !== hash(text))
      return [{ object, expected: "with the claims of all owners", found: "made of others" }];
    if (seen === hash(withoutSeal(listed))) return [];
    return [{ object, expected: "as it was written", found: "changed by another program" }];
  }

  remove(owner?: string): boolean {
    return withNatLock(this.#namespace, "removing NAT rules", () => {
      if (this.#list() === undefined) return false;
      const all = this.intents();
      const left = owner === undefined ? [] : all.filter((intent) => intent.owner !== owner);
      if (owner !== undefined && left.length === all.length) return false;
      this.#write(left);
      return true;
    });
  }

  intents(): NatIntent[] {
    const claims = [...(this.#list() ?? "").matchAll(/continue comment "([^"]+)"/g)].map(
      (found) => found[1]!,
    );
    return intentsOfClaims(claims);
  }

  describe(intent: NatIntent): string {
    return rulesText(this.#with(normalizeIntent(intent)));
  }

  [Symbol.dispose](): void {
    if (this.#owned) this.#namespace.close();
  }

  #with(intent: NatIntent): NatIntent[] {
    const others = this.intents().filter(({ owner }) => owner !== intent.owner);
    return [...others, intent].sort((a, b) => (a.owner < b.owner ? -1 : 1));
  }

  /** Old and new in one transaction; the seal follows, and without it the rules count as changed. */
  #write(intents: readonly NatIntent[]): void {
    const clean = Object.values(FAMILIES).map(
      (family) => `add table ${family} ${TABLE}\ndelete table ${family} ${TABLE}\n`,
    );
    const text = intents.length === 0 ? "" : rulesText(intents);
    this.#nft(["-f", "-"], clean.join("") + text);
    if (text === "") return;
    const seal = `${hash(text)} ${hash(withoutSeal(this.#list() ?? ""))}`;
    this.#nft(["-f", "-"], `add rule ip ${TABLE} seal continue comment "${seal}"\n`);
  }

  /** undefined where one of the tables is missing. */
  #list(): string | undefined {
    const all = this.#nft(["-n", "list", "ruleset"]);
    const tables = Object.values(FAMILIES).map((family) =>
      new RegExp(`^table ${family} ${TABLE} \\{\\n[^]*?^\\}`, "m").exec(all),
    );
    return tables.includes(null) ? undefined : tables.map((found) => found![0]).join("\n");
  }

  #nft(args: readonly string[], input = ""): string {
    const nft = Bun.which("nft");
    const doing = "asking nft";
    if (nft === null) throw new WayoutError({ code: LACK, kind: "machine", doing, said: "there is no nft" });
    const ran = this.#namespace.run(() => Bun.spawnSync([nft, ...args], { stdin: Buffer.from(input) }));
    if (ran.success) return ran.stdout.toString();
    throw new WayoutError({ code: "nat-refused", kind: "broken", doing, said: ran.stderr.toString() });
  }
}

function hash(text: string): string {
  return new Bun.CryptoHasher("sha256").update(text).digest("hex").slice(0, 32);
}

function withoutSeal(listed: string): string {
  return listed.replace(/^.*comment "[0-9a-f]+ [0-9a-f]+".*\n/m, "");
}

function rulesText(intents: readonly NatIntent[]): string {
  const claims = intents.flatMap(claimsOf).map((claim) => `continue comment "${claim}"`);
  return ([4, 6] as const)
    .map((family) => {
      const word = FAMILIES[family];
      const all = byPrecedence(intents, family);
      const rules = [
        `oifname "lo" return`,
        ...NEVER_TRANSLATED[family].map((cidr) => `${word} daddr ${cidr} return`),
        ...all.flatMap((owned) => sourceRules(word, owned, all, intents)),
      ];
      const chain = (name: string, lines: readonly string[]): string =>
        `chain ${name} {\n${lines.join("\n")}\n}\n`;
      const hook = `type nat hook postrouting priority ${PRIORITY}; policy accept;`;
      return `table ${word} ${TABLE} {\n${chain("claims", family === 4 ? claims : [])}${chain("seal", [])}${chain("postrouting", [hook, ...rules])}}\n`;
    })
    .join("");
}

/** First what anybody around it leaves as it is, then whom its packets leave as. */
function sourceRules(
  word: string,
  { source, cidr, owner }: OwnedSource,
  all: readonly OwnedSource[],
  intents: readonly NatIntent[],
): string[] {
  return interfacesOf(source).flatMap(({ words, name }) => {
    const from = source.cidr.endsWith("/0") ? "" : `${word} saddr ${source.cidr} `;
    const around = new Set([owner]);
    for (const other of all) {
      const isAround = other.cidr.first <= cidr.first && cidr.last <= other.cidr.last;
      const entrances = other.source.inInterfaces;
      if (
        isAround &&
        (entrances === undefined || source.inInterfaces === undefined || entrances.includes(name))
      )
        around.add(other.owner);
    }
    const left = intents
      .filter((intent) => around.has(intent.owner))
      .flatMap(({ untranslated }) => untranslated.filter((one) => one.includes(":") === (word === "ip6")));
    return [
      ...[...new Set(left)].map((one) => `${from}${words}${word} daddr ${one} return`),
      ...translations(source).map((translation) => `${from}${words}${translation}`),
    ];
  });
}

function interfacesOf({
  inInterfaces,
  outInterfaces,
  fromNode,
}: NatSource): { words: string; name: string }[] {
  if (fromNode === true) return [{ words: "fib saddr type local ", name: "" }];
  const side = inInterfaces === undefined ? "oifname" : "iifname";
  const names = inInterfaces ?? outInterfaces;
  return names?.map((name) => ({ words: `${side} "${name}" `, name })) ?? [{ words: "", name: "" }];
}

function translations({ translation: { snat, ports, fullyRandom, drop } }: NatSource): string[] {
  if (drop === true) return ["ct direction original drop"];
  const flags = [...(fullyRandom ? ["fully-random"] : []), ...(snat === undefined ? [] : ["persistent"])];
  const bracketed = (address: string): string => (address.includes(":") ? `[${address}]` : address);
  const to =
    snat === undefined
      ? ""
      : snat.first === snat.last
        ? bracketed(snat.first)
        : `${bracketed(snat.first)}-${bracketed(snat.last)}`;
  const statement = (range: string): string => {
    const target = `${to}${range}` === "" ? "" : ` to ${to}${range}`;
    return `${snat === undefined ? "masquerade" : "snat"}${target} ${flags.join(",")}`.trimEnd();
  };
  if (ports === undefined) return [statement("")];
  const range = `:${ports.first}-${ports.last}`;
  return [...PORT_PROTOCOLS.map((protocol) => `meta l4proto ${protocol} ${statement(range)}`), statement("")];
}
