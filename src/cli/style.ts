import { stripVTControlCharacters, styleText } from "node:util";

type Format = Parameters<typeof styleText>[0];

/** Colour only where a person looks: a terminal, and no NO_COLOR (https://no-color.org). */
export function colourWanted(stream: NodeJS.WriteStream = process.stdout): boolean {
  if ((process.env["NO_COLOR"] ?? "") !== "") return false;
  if ((process.env["FORCE_COLOR"] ?? "") !== "") return true;
  return stream.isTTY;
}

function painter(format: Format): (text: string) => string {
  return (text) => (colourWanted() ? styleText(format, text, { validateStream: false }) : text);
}

/** Colours by meaning. */
export const style = {
  good: painter("green"),
  bad: painter("red"),
  warn: painter("yellow"),
  hint: painter("cyan"),
  quiet: painter("dim"),
  strong: painter("bold"),
  address: painter("magenta"),
  command: painter(["bold", "blue"]),
};

/** Columns padded to their widest cell; colour does not count as width. Trailing space is cut. */
export function table(rows: readonly (readonly string[])[], gap = "  "): string {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [column, cell] of row.entries()) {
      widths[column] = Math.max(widths[column] ?? 0, stripVTControlCharacters(cell).length);
    }
  }
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell + " ".repeat(widths[column]! - stripVTControlCharacters(cell).length))
        .join(gap)
        .trimEnd(),
    )
    .join("\n");
}
