/** What is looked at, and how the address bar writes it: `#/connections?pod=ns-blue`. Pure. */

export const VIEWS = {
  "": "Way out",
  connections: "Connections",
  history: "History",
  explain: "Explain",
  figures: "Figures",
  lab: "Lab",
} as const;

export type View = keyof typeof VIEWS;

export interface AddressBar {
  readonly view: View;
  /** `pod`, `at`, `to`, `flow`, and the filters of tables. */
  readonly of: Readonly<Record<string, string>>;
}

export function parseAddressBar(hash: string): AddressBar {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  return {
    view: path in VIEWS ? (path as View) : "",
    of: Object.fromEntries([...new URLSearchParams(query)].filter(([, value]) => value !== "")),
  };
}

export function addressBarText({ view, of }: AddressBar): string {
  const query = new URLSearchParams(Object.entries(of).filter(([, value]) => value !== "")).toString();
  return `#/${view}${query === "" ? "" : `?${query}`}`;
}
