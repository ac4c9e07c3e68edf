/** What the node made of the ends of the packet: before, after, and which rule it was. Pure. */
import type { Case } from "./case.ts";
import { endLabel } from "./correlate.ts";
import type { LegacyGrowth } from "../evidence.ts";
import type { RuleReport, StepEvidence } from "../report.ts";
import { targetEnd, translatingRule, type TranslatedEnd } from "./rules.ts";
import { present } from "../../present.ts";

/** One end that became another. */
export interface SeenTranslation {
  readonly end: TranslatedEnd;
  readonly before: string;
  readonly after: string;
  /** The rule of nf_tables, as far as it was seen. */
  readonly rule?: RuleReport;
  readonly evidence: readonly StepEvidence[];
}

/** In the order in which they happen: a destination is translated before the packet is routed, a source after it. */
export function translationsOf(of: Case): SeenTranslation[] {
  return (["destination", "source"] as const).flatMap((end) => {
    const ends = endsOfCase(of, end);
    if (ends === undefined || ends.before === ends.after) return [];
    const rule = translatingRule(of.outRules, of.evidence.rulesets, end)?.report;
    const legacy = of.evidence.legacyGrowth.find(({ verdict }) => targetEnd(verdict) === end);
    return [
      {
        end,
        ...ends,
        ...present({ rule }),
        evidence: translationEvidence(rule, legacy),
      },
    ];
  });
}

function endsOfCase(
  { evidence, correlation }: Case,
  end: TranslatedEnd,
): { before: string; after: string } | undefined {
  const { flow } = evidence;
  const { outside } = correlation;
  if (outside === undefined) return undefined;
  const port = end === "source" ? flow.sourcePort : flow.destinationPort;
  const before = present({ address: flow[end], port });
  return { before: endLabel(before, flow), after: endLabel(outside[end], flow) };
}

/** The rule as its program writes it and where it stands; of iptables-legacy the one whose counter moved. */
export function translationEvidence(
  rule: RuleReport | undefined,
  legacy: LegacyGrowth | undefined,
): StepEvidence[] {
  return [
    ...(rule === undefined ? [] : [{ source: "nf_tables trace", lines: [rule.text, placeText(rule)] }]),
    ...(legacy === undefined
      ? []
      : [
          {
            source: "iptables-legacy counters",
            lines: [`${legacy.table} ${legacy.chain} ${legacy.rule}: + ${legacy.packets}`],
          },
        ]),
  ];
}

function placeText({ family, table, chain, handle, owner }: RuleReport): string {
  const whose = owner === undefined ? "" : `, ${owner}'s`;
  return `rule ${handle} of chain ${chain} in table ${family} ${table}${whose}`;
}

/** `A → B`; the ends are named where the destination is among them. */
export function seenTranslationText(translations: readonly SeenTranslation[]): string {
  const change = ({ before, after }: SeenTranslation): string => `${before} → ${after}`;
  if (isPlain(translations)) return translations.map(change).join();
  return translations.map((one) => `${one.end} ${change(one)}`).join("; ");
}

/** The same of the answer, whose source is the packet's destination. Its destination is put back first. */
export function translationBackText(translations: readonly SeenTranslation[]): string {
  const change = ({ before, after }: SeenTranslation): string => `${after} → ${before}`;
  if (isPlain(translations)) return translations.map(change).join();
  return translations
    .map((one) => `${one.end === "source" ? "destination" : "source"} ${change(one)}`)
    .toReversed()
    .join("; ");
}

function isPlain(translations: readonly SeenTranslation[]): boolean {
  return translations.every(({ end }) => end === "source");
}
