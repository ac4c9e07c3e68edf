import { visible } from "../text/visible.ts";
import type { ConntrackEntry, FlowCounters } from "../linux/conntrack/entry.ts";
import { BY_PROGRAMS, IPS } from "../linux/conntrack/status.ts";
import { flowState, podOf, flowTranslationText, type PodIndex } from "./flow.ts";

/** What a line may say besides the entry. */
export interface FlowLineContext {
  readonly pods: PodIndex;
  /** The present, for ages; milliseconds since 1970. */
  readonly nowMs: number;
}

/** Widths of the columns before the translation. Longer values push the rest to the right. */
const PROTOCOL_WIDTH = 7;
const STATE_WIDTH = 12;
export const TIMEOUT_WIDTH = 6;

/** Status bits that a line names, in this order; the others say nothing that one could not see. */
export const LINE_FLAGS = [
  [IPS.EXPECTED, "expected"],
  [IPS.SEQ_ADJUST, "seq-adjust"],
  [IPS.FIXED_TIMEOUT, "fixed-timeout"],
  [IPS.HW_OFFLOAD, "hw-offload"],
  [IPS.OFFLOAD, "offload"],
  [BY_PROGRAMS, "eBPF"],
] as const;

/**
 * A flow as one line of text: protocol, state, seconds until it is forgotten, the translation, and what else is to be
 * said: `tcp    ESTABLISHED  86399s  10.0.0.1:5432 ↔ 203.0.113.5:5432 → 198.51.100.80:443  pod=blue assured`.
 * FlowPrinter writes the same bytes, faster; test/flows/flow-printer.test.ts holds them together.
 */
export function flowLine(entry: ConntrackEntry, context: FlowLineContext): string {
  const timeout = entry.timeoutSeconds === undefined ? "-" : `${entry.timeoutSeconds}s`;
  const columns = columnText(entry.protocolName, flowState(entry));
  const notes = notesOf(entry, context);
  return `${columns}${timeout.padStart(TIMEOUT_WIDTH + 1)}  ${flowTranslationText(entry)}${notes === "" ? "" : `  ${notes}`}`;
}

/** The columns of protocol and state, with the space behind them. */
export function columnText(protocol: string, state: string): string {
  return `${protocol.padEnd(PROTOCOL_WIDTH - 1)} ${state.padEnd(STATE_WIDTH - 1)} `;
}

function notesOf(entry: ConntrackEntry, { pods, nowMs }: FlowLineContext): string {
  const notes: string[] = [];
  const pod = podOf(entry, pods);
  if (pod !== undefined) notes.push(`pod=${visible(pod)}`);
  if (entry.counters !== undefined) {
    notes.push(`↑${countersText(entry.counters.original)} ↓${countersText(entry.counters.reply)}`);
  }
  if (entry.startedAtMs !== undefined) notes.push(`age=${ageSeconds(entry.startedAtMs, nowMs)}s`);
  if (entry.state !== undefined) {
    if ((entry.status & IPS.SEEN_REPLY) === 0) notes.push("unreplied");
    if ((entry.status & IPS.ASSURED) !== 0) notes.push("assured");
  }
  for (const [bit, name] of LINE_FLAGS) if ((entry.status & bit) !== 0) notes.push(name);
  if (entry.mark !== 0) notes.push(`mark=${entry.mark}`);
  if (entry.zone !== 0) notes.push(`zone=${entry.zone}`);
  if (entry.original.zone !== undefined) notes.push(`zone-orig=${entry.original.zone}`);
  if (entry.reply.zone !== undefined) notes.push(`zone-reply=${entry.reply.zone}`);
  if (entry.helper !== undefined) notes.push(`helper=${entry.helper}`);
  if (entry.labels !== undefined) notes.push(`labels=${entry.labels.join(",")}`);
  return notes.join(" ");
}

function countersText({ packets, bytes }: FlowCounters): string {
  return `${packets}/${bytes}B`;
}

/** Whole seconds since then; 0 for a clock that was set back. */
export function ageSeconds(startedAtMs: number, nowMs: number): number {
  return Math.max(0, Math.floor((nowMs - startedAtMs) / 1000));
}
