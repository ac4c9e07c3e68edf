/** The text of networkd.conf(5), as far as it says what systemd-networkd does with what others set up. Pure. */

export interface NetworkdSettings {
  /** Whether it deletes, when it configures a link, routes and policy rules that it did not make. */
  readonly foreignRoutes: boolean;
  readonly foreignRules: boolean;
}

/** What it does when no file says anything. */
const DEFAULTS: NetworkdSettings = { foreignRoutes: true, foreignRules: true };

const FIELDS: Readonly<Record<string, keyof NetworkdSettings>> = {
  ManageForeignRoutes: "foreignRoutes",
  ManageForeignRoutingPolicyRules: "foreignRules",
};
/** systemd.syntax(7). */
const FALSE = new Set(["0", "no", "n", "false", "f", "off"]);
const TRUE = new Set(["1", "yes", "y", "true", "t", "on"]);

/** @param texts of all its files, in the order in which the later wins */
export function parseNetworkdConf(texts: readonly string[]): NetworkdSettings {
  const settings = { ...DEFAULTS };
  for (const text of texts) {
    let section = "";
    for (const raw of text.split("\n")) {
      const line = raw.trim();
      if (line.startsWith("#") || line.startsWith(";")) continue;
      if (line.startsWith("[")) section = line;
      const at = line.indexOf("=");
      const field = FIELDS[line.slice(0, Math.max(at, 0)).trim()];
      if (section !== "[Network]" || field === undefined) continue;
      const value = line
        .slice(at + 1)
        .trim()
        .toLowerCase();
      // An empty assignment goes back to the default; what it cannot read it ignores.
      if (value === "") settings[field] = DEFAULTS[field];
      else if (FALSE.has(value)) settings[field] = false;
      else if (TRUE.has(value)) settings[field] = true;
    }
  }
  return settings;
}
