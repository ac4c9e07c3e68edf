/**
 * Where in our sources a place of the small program's one script lies: the build writes it as a text, line by line, which
 * nobody reads until something is told of a mistake.
 */

/** Of each line of the script, with commas between: `` the line after the one before, `7` that line, `2:7` of file 2. */
export interface Places {
  readonly script: string;
  readonly files: readonly string[];
  readonly lines: string;
}

export function placesText(places: readonly (readonly [file: number, line: number])[]): string {
  let [file, line] = [-1, 0];
  const entries: string[] = [];
  for (const place of places) {
    const isNext = place[0] === file && place[1] === line + 1;
    entries.push(isNext ? "" : place[0] === file ? `${place[1]}` : `${place[0]}:${place[1]}`);
    [file, line] = place;
  }
  return entries.join(",");
}

/** A stack with every place in the script replaced by the one in our sources. */
export function inSources(stack: string, { script, files, lines }: Places): string {
  const found: string[] = [];
  let [file, line] = [0, 0];
  for (const entry of lines.split(",")) {
    const parts = entry.split(":");
    if (entry === "") line++;
    else line = Number(parts[parts.length - 1]);
    if (parts.length === 2) file = Number(parts[0]);
    found.push(`${files[file]}:${line}`);
  }
  const places = stack.split(`${script}:`);
  for (let at = 1; at < places.length; at++) {
    const [whole = "", number = ""] = /^(\d+)(?::\d+)?/.exec(places[at]!) ?? [];
    const place = found[Number(number) - 1] ?? `${script}:${number}`;
    places[at] = `${place}${places[at]!.slice(whole.length)}`;
  }
  return places.join("");
}
