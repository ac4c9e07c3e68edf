import type { IpFamily } from "../../../address/ip.ts";
import { NetworkNamespace } from "../../../kernel/namespace.ts";
import { MISSING, THERE, type NatBackend, type AppliedNat, type NatDrift } from "../../backend.ts";
import { normalizeIntent, type NatIntent } from "../../intent.ts";
import { detectVariant, restoreNat, saveNat, type IptablesVariant } from "./program.ts";
import {
  intentsOf,
  MAIN_CHAIN,
  readSaved,
  restoreText,
  rulesetOf,
  type Ruleset,
  type SavedRuleset,
} from "./ruleset.ts";
import { dropDrifts, writeDrops } from "../nftables/drop-table.ts";
import { DROPS } from "./names.ts";
import { withNatLock, withNatLockToRemove } from "../../lock.ts";
import { iptablesChain } from "../../../naming/names.ts";

const FAMILIES = [4, 6] as const;

/**
 * NAT through the host's own iptables programs, for hosts that standardised on them. Each family is one
 * iptables-restore, hence atomic by itself; when the second is refused the first is put back.
 */
export class IptablesNat implements NatBackend {
  readonly name = "iptables";
  readonly #namespace: NetworkNamespace;
  readonly #owned: boolean;
  #variant: IptablesVariant | undefined;

  /** @param variant absent: whichever kind the host uses (see detectVariant) */
  constructor(options: { readonly namespace?: NetworkNamespace; readonly variant?: IptablesVariant } = {}) {
    this.#owned = options.namespace === undefined;
    this.#namespace = options.namespace ?? NetworkNamespace.current();
    this.#variant = options.variant;
  }

  get variant(): IptablesVariant {
    this.#variant ??= detectVariant(this.#namespace);
    return this.#variant;
  }

  apply(intent: NatIntent): AppliedNat {
    const wanted = normalizeIntent(intent);
    return withNatLock(this.#namespace, `writing the NAT rules of ${wanted.owner}`, () => {
      const steps = FAMILIES.map((family) => this.#step(family, [wanted]));
      const before = ofBothFamilies(steps.map(({ saved }) => saved));
      const [dropped, drops] = this.#drops(before, [wanted]);
      const drifts = [...drops, ...steps.flatMap((step) => step.drifts)];
      if (drifts.length === 0) return { changed: false, drifts };
      if (drops.length > 0) writeDrops(this.#namespace, DROPS, dropped);
      this.#write(steps.filter((step) => step.drifts.length > 0));
      return { changed: true, drifts, before };
    });
  }

  applyAll(intents: readonly NatIntent[]): AppliedNat {
    const wanted = intents.map(normalizeIntent);
    const doing = `writing the NAT rules of ${wanted.map(({ owner }) => owner).join(", ")}`;
    return withNatLock(this.#namespace, doing, () => {
      const done: (WriteStep & { readonly drifts: readonly NatDrift[] })[] = [];
      const failures: unknown[] = [];
      for (const family of FAMILIES) {
        try {
          const step = this.#step(family, wanted);
          if (step.drifts.length > 0) this.#restore(family, step.ruleset, step.saved);
          done.push(step);
        } catch (error) {
          failures.push(error);
        }
      }
      const before = ofBothFamilies(done.map(({ saved }) => saved));
      const [dropped, drops] = this.#drops(before, wanted);
      if (drops.length > 0) writeDrops(this.#namespace, DROPS, dropped);
      if (failures.length > 0) throw failures[0];
      const drifts = [...drops, ...done.flatMap((step) => step.drifts)];
      if (drifts.length === 0) return { changed: false, drifts };
      return { changed: true, drifts, before };
    });
  }

  /** What shall be wanted of what is dropped, and how the table that does it differs. */
  #drops(before: readonly NatIntent[], wanted: readonly NatIntent[]) {
    const target = wanted.reduce(replacing, [...before]);
    return [target, dropDrifts(this.#namespace, DROPS, target, before)] as const;
  }

  #step(family: IpFamily, wanted: readonly NatIntent[]) {
    const saved = this.#saved(family);
    const ruleset = rulesetOf(wanted.reduce(replacing, intentsOf(saved)), family);
    return { family, saved, ruleset, drifts: driftsBetween(ruleset, saved, family) };
  }

  verify(intent: NatIntent): NatDrift[] {
    const steps = FAMILIES.map((family) => this.#step(family, [normalizeIntent(intent)]));
    const before = ofBothFamilies(steps.map(({ saved }) => saved));
    const [, drops] = this.#drops(before, [normalizeIntent(intent)]);
    return [...drops, ...steps.flatMap((step) => step.drifts)];
  }

  remove(owner?: string): boolean {
    const doing = owner === undefined ? "removing our NAT rules" : `removing the NAT rules of ${owner}`;
    return withNatLockToRemove(this.#namespace, doing, () => {
      const all = FAMILIES.map((family) => ({ family, saved: this.#saved(family) }));
      const steps = all.flatMap(({ family, saved }) => {
        if (saved.chains.size === 0 && saved.jumps === 0) return [];
        if (owner !== undefined && !saved.chains.has(iptablesChain(owner))) return [];
        const left = owner === undefined ? [] : intentsOf(saved).filter((intent) => intent.owner !== owner);
        return [{ family, saved, ruleset: rulesetOf(left, family) }];
      });
      const before = ofBothFamilies(all.map(({ saved }) => saved));
      const left = before.filter((one) => owner !== undefined && one.owner !== owner);
      if (dropDrifts(this.#namespace, DROPS, left, before).length > 0)
        writeDrops(this.#namespace, DROPS, left);
      this.#write(steps);
      return steps.length > 0;
    });
  }

  intents(): NatIntent[] {
    return ofBothFamilies(FAMILIES.map((family) => this.#saved(family)));
  }

  describe(intent: NatIntent): string {
    const wanted = normalizeIntent(intent);
    return FAMILIES.flatMap((family) => {
      const saved = this.#saved(family);
      const ruleset = rulesetOf(replacing(intentsOf(saved), wanted), family);
      if (ruleset.size === 0) return [];
      const program = family === 4 ? "iptables" : "ip6tables";
      return [`# ${program}-restore --noflush\n${restoreText(ruleset, { chains: new Map(), jumps: 0 })}`];
    }).join("\n");
  }

  [Symbol.dispose](): void {
    if (this.#owned) this.#namespace.close();
  }

  /** Family by family. When one is refused, those before it get back what they had. */
  #write(steps: readonly WriteStep[]): void {
    const done: WriteStep[] = [];
    try {
      for (const step of steps) {
        this.#restore(step.family, step.ruleset, step.saved);
        done.push(step);
      }
    } catch (error) {
      for (const { family, saved } of done.toReversed())
        this.#restore(family, saved.chains, this.#saved(family));
      throw error;
    }
  }

  #restore(family: IpFamily, wanted: Ruleset, saved: SavedRuleset): void {
    restoreNat(this.#namespace, this.variant, family, restoreText(wanted, saved));
  }

  #saved(family: IpFamily): SavedRuleset {
    return readSaved(saveNat(this.#namespace, this.variant, family));
  }
}

/** One family's ruleset, before and after. */
interface WriteStep {
  readonly family: IpFamily;
  readonly saved: SavedRuleset;
  readonly ruleset: Ruleset;
}

/** What owners want, sorted by them: each family's rules tell its own part. */
function ofBothFamilies(saved: readonly SavedRuleset[]): NatIntent[] {
  const merged = new Map<string, NatIntent>();
  for (const intent of saved.flatMap(intentsOf)) {
    const before = merged.get(intent.owner);
    merged.set(
      intent.owner,
      before === undefined
        ? intent
        : {
            owner: intent.owner,
            sources: [...before.sources, ...intent.sources],
            untranslated: [...before.untranslated, ...intent.untranslated],
          },
    );
  }
  return [...merged.values()].map(normalizeIntent).sort((a, b) => (a.owner < b.owner ? -1 : 1));
}

/** These intents with the owner's replaced, or added. */
function replacing(intents: NatIntent[], intent: NatIntent): NatIntent[] {
  return [...intents.filter(({ owner }) => owner !== intent.owner), intent];
}

function driftsBetween(wanted: Ruleset, saved: SavedRuleset, family: IpFamily): NatDrift[] {
  const program = family === 4 ? "iptables" : "ip6tables";
  const drifts: NatDrift[] = [];
  const object = (chain: string): string => `chain ${chain} (${program} nat)`;
  const jumps = wanted.size > 0 ? 1 : 0;
  if (jumps !== saved.jumps) {
    drifts.push({
      object: `the jump from POSTROUTING to ${MAIN_CHAIN} (${program} nat)`,
      expected: jumps === 0 ? MISSING : "there once",
      found: saved.jumps === 0 ? MISSING : `there ${saved.jumps} times`,
    });
  }
  for (const [chain, rules] of wanted)
    drifts.push(...compareChain(object(chain), rules, saved.chains.get(chain)));
  for (const chain of saved.chains.keys()) {
    if (!wanted.has(chain))
      drifts.push({ object: object(chain), expected: MISSING, found: "there, and no owner needs it" });
  }
  return drifts;
}

function compareChain(
  object: string,
  rules: readonly string[],
  found: readonly string[] | undefined,
): NatDrift[] {
  if (found === undefined) return [{ object, expected: THERE, found: MISSING }];
  const missing = rules.filter((rule) => !found.includes(rule));
  if (missing.length > 0) {
    return missing.map((rule) => ({ object: `the rule '${rule}'`, expected: THERE, found: MISSING }));
  }
  if (rules.join("\n") === found.join("\n")) return [];
  const strange = found.find((rule) => !rules.includes(rule));
  if (strange === undefined) {
    return [
      {
        object: `the rules of ${object}`,
        expected: "each there once, in order",
        found: "double or out of order",
      },
    ];
  }
  return [{ object: `'${strange}' in ${object}`, expected: MISSING, found: "not ours" }];
}
