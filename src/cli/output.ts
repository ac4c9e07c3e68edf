/**
 * Where everything that this program tells goes out: nothing else in src/cli writes to standard output or error.
 * Names, comments and errors are chosen by others, pods among them. Hence texts for people are made by a function of
 * values, and gets them with everything unseen spelled out (`visible`): whatever it composes of them, the newlines and
 * colours in it are ours. Behind it a guard passes nothing but newlines and our own colours.
 */
import { jsonText } from "../text/json.ts";
import { visible, visibleLines, visibleLogLine, visibleValue } from "../text/visible.ts";
import { colourWanted, style } from "./style.ts";

/** Tells people on standard output what `text` makes of the values. */
export function tell<V extends readonly unknown[]>(text: (...values: V) => string, ...values: V): void {
  process.stdout.write(guarded(text(...visibleValue(values))));
}

/** The same on standard error: what is not the answer itself. */
export function tellAside<V extends readonly unknown[]>(text: (...values: V) => string, ...values: V): void {
  process.stderr.write(guarded(text(...visibleValue(values))));
}

/** One quiet line on standard error, which is not part of the answer. */
export function note(text: string): void {
  process.stderr.write(`${style.quiet(visible(text))}\n`);
}

/** One line of a log on standard error, text or JSON. */
export function logLine(line: string): void {
  process.stderr.write(`${visibleLogLine(line)}\n`);
}

/** Prints one JSON value, the whole of stdout under --json. */
export function printJson(value: unknown): void {
  process.stdout.write(`${jsonText(value, 2)}\n`);
}

/** One JSON value of several, on a line of its own. */
export function printJsonLine(value: unknown): void {
  process.stdout.write(`${jsonText(value)}\n`);
}

/** What commander composes of our own texts: help, the version. */
export const HELP_OUTPUT = {
  writeOut: (text: string): void => void process.stdout.write(guarded(text)),
  writeErr: (text: string): void => void process.stderr.write(guarded(text)),
  outputError: (): void => {},
};

/** The second line of defence: a text in which only newlines and, where they are wanted, our own colours are unseen. */
function guarded(text: string): string {
  if (!colourWanted()) return visibleLines(text);
  const parts = text.split(OUR_COLOURS);
  return parts.map((part, index) => (index % 2 === 1 ? part : visibleLines(part))).join("");
}

/** What styleText writes for the colours of style.ts. */
// oxlint-disable-next-line no-control-regex
const OUR_COLOURS = /(\u001b\[(?:1|2|22|3[1-6]|39)m)/;
