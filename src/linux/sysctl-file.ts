/** The text of a sysctl.d file (sysctl.d(5)). Pure, and linear in the text's length, whatever stands in it. */

/** One assignment. */
export interface SysctlAssignment {
  /** With dots: `net.ipv4.ip_forward`. May hold shell wildcards. */
  readonly name: string;
  readonly value: string;
  /** 1-based. */
  readonly line: number;
}

/** `name = value` lines; `#` and `;` begin comments, a leading `-` allows failure, `/` may stand for `.`. */
export function parseSysctlText(text: string): SysctlAssignment[] {
  return text.split("\n").flatMap((raw, index) => {
    const line = raw.trim();
    const at = line.indexOf("=");
    if (at < 0 || line.startsWith("#") || line.startsWith(";")) return [];
    const name = (line.startsWith("-") ? line.slice(1, at) : line.slice(0, at)).trim();
    return name === "" ? [] : [{ name: dotted(name), value: line.slice(at + 1).trim(), line: index + 1 }];
  });
}

/** A name whose first separator is a slash uses slashes for dots, and dots for themselves. */
function dotted(name: string): string {
  const slash = name.indexOf("/");
  const dot = name.indexOf(".");
  return slash >= 0 && (dot < 0 || slash < dot) ? name.replaceAll("/", ".") : name;
}
