/** The doctor's answer as text: the sentence, the checklist, then each finding with its evidence. */
import type { ChecklistLine, Diagnosis, StepStatus } from "../doctor/diagnose.ts";
import type { Finding } from "../doctor/finding.ts";
import { groupFindings } from "../examination/group-findings.ts";
import { style, table } from "./style.ts";

const MARKS: Readonly<Record<StepStatus, string>> = { ok: "✓", broken: "✗", warned: "!", skipped: "–" };

function mark(status: StepStatus): string {
  const paint = { ok: style.good, broken: style.bad, warned: style.warn, skipped: style.quiet }[status];
  return paint(MARKS[status]);
}

export function diagnosisText(diagnosis: Diagnosis): string {
  const { answer, healthy, certain, checklist, findings, path, gaps } = diagnosis;
  const status: StepStatus = healthy ? (certain ? "ok" : "warned") : "broken";
  return [
    hanging(mark(status), answer, style.strong),
    "",
    table(checklistRows(checklist)),
    ...findings.flatMap((finding) => ["", findingText(finding)]),
    ...(path.blindSpots.length === 0
      ? []
      : ["", ...path.blindSpots.map((spot) => style.warn(`cannot look into ${spot}`))]),
    ...(gaps.length === 0 ? [] : ["", ...gaps.map((gap) => style.quiet(`not looked at: ${gap}`))]),
    "",
  ].join("\n");
}

function checklistRows(checklist: readonly ChecklistLine[]): string[][] {
  const column = 2 + 1 + 2 + Math.max(...checklist.map(({ title }) => title.length)) + 2;
  return checklist.flatMap(({ status, title, text }) =>
    folded(text, column).map((line, index) => {
      const shown = status === "ok" ? style.quiet(line) : line;
      return index === 0 ? ["", mark(status), title, shown] : ["", "", "", shown];
    }),
  );
}

/** A mark and a sentence, whose further lines stand below its beginning. */
function hanging(sign: string, text: string, paint: (text: string) => string = (plain) => plain): string {
  return `${sign} ${folded(text, 2).map(paint).join("\n  ")}`;
}

export function findingText(finding: Finding): string {
  const paint = finding.stopsTraffic ? style.bad : style.warn;
  const said = (label: string, text: string): string[][] =>
    folded(text, VALUE_COLUMN).map((line, index) => ["", style.quiet(index === 0 ? label : ""), line]);
  const rows = [
    ...finding.evidence.flatMap(({ source, value }) => said("evidence", `${source}: ${value}`)),
    ...said("whose", finding.owner),
    ...said("so", finding.consequence),
    ...finding.fix.map(({ command }) => ["", style.quiet("fix"), style.command(command)]),
    ...(finding.advice ?? []).flatMap((text) => said("besides", text)),
    ...(finding.confidence === "certain" ? [] : [["", style.quiet("sure?"), finding.confidence]]),
  ];
  const code = `[${finding.code}]`;
  const sentence = hanging(paint(finding.stopsTraffic ? "✗" : "!"), `${finding.text} ${code}`);
  const head = sentence.replace(code, style.quiet(code));
  return `${head}\n${table(rows)}`;
}

/** Column at which a finding's values begin. */
const VALUE_COLUMN = 12;
const NARROWEST = 40;

/**
 * Lines that fit the terminal beside what stands before them; elsewhere, one. A command is never folded: it is to be
 * pasted.
 */
function folded(text: string, column: number): string[] {
  const room = process.stdout.isTTY ? Math.max(NARROWEST, process.stdout.columns - column) : undefined;
  if (room === undefined || text.length <= room) return [text];
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const last = lines.at(-1);
    if (last === undefined || last.length + 1 + word.length > room) lines.push(word);
    else lines[lines.length - 1] = `${last} ${word}`;
  }
  return lines;
}

/** Many pods: those that are well in one line, equal findings once with the pods that have them. */
export function manyText(diagnoses: readonly Diagnosis[]): string {
  if (diagnoses.length === 0)
    return "No pod of this node was found: nothing is attached to its bridges or veths.\n";
  const blind = diagnoses.filter((one) => one.blind);
  const well = diagnoses.filter((one) => one.healthy && !one.blind);
  const rest = diagnoses.length - well.length - blind.length;
  const sign = rest > 0 ? "broken" : blind.length > 0 ? "warned" : "ok";
  const lines = [
    `${mark(sign)} ${style.strong(`${well.length} of ${diagnoses.length} pods can reach the outside`)}`,
    ...blindLines(blind),
  ];
  for (const group of groupFindings(diagnoses)) {
    const { finding, pods } = group;
    lines.push("", findingText(finding), `  ${style.quiet("pods")}      ${podsText(pods)}`);
  }
  return `${lines.join("\n")}\n`;
}

/** What could not be read is not called healthy, and why not is said once. */
function blindLines(blind: readonly Diagnosis[]): string[] {
  if (blind.length === 0) return [];
  const gaps = [...new Set(blind.flatMap((one) => one.gaps))].slice(0, MOST_GAPS);
  return [
    `${mark("warned")} ${blind.length === 1 ? "of one it" : `of ${blind.length} it`} cannot be told: ${podsText(blind.map((one) => one.pod))}`,
    ...gaps.map((gap) => style.quiet(`  not looked at: ${gap}`)),
  ];
}

const MOST_GAPS = 8;

function podsText(pods: readonly string[]): string {
  const shown = pods.slice(0, 8).join(", ");
  return pods.length > 8 ? `${shown} and ${pods.length - 8} more` : shown;
}
