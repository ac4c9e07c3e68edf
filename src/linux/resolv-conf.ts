/** resolv.conf(5) as the C library reads it: lines it does not know are passed over. Pure, linear in the text's length. */

import { isIp } from "../address/ip.ts";

export interface ResolvConf {
  /** In order, as written: an IPv6 address may carry a zone (`fe80::1%eth0`). */
  readonly nameservers: readonly string[];
  readonly domain?: string;
  readonly search: readonly string[];
  readonly options: readonly string[];
}

/** MAXNS of resolv.h: of the lines that name an address the C library asks the first three. */
const MOST_ASKED = 3;
/** Lists longer than this are nobody's configuration; the C library takes three nameservers and 256 characters of search. */
const MOST_ENTRIES = 64;
const MOST_CHARACTERS = 256;

export function parseResolvConf(text: string): ResolvConf {
  const nameservers: string[] = [];
  const search: string[] = [];
  const options: string[] = [];
  let domain: string | undefined;
  for (const line of text.split("\n")) {
    // To the C library a NUL is the end of the line.
    const [keyword, ...values] = line.split("\0", 1)[0]!.trim().split(/\s+/);
    if (values.length === 0) continue;
    if (keyword === "nameserver") nameservers.push(values[0]!);
    else if (keyword === "domain") domain = values[0]!;
    else if (keyword === "search") search.push(...values.slice(0, MOST_ENTRIES));
    else if (keyword === "options") options.push(...values.slice(0, MOST_ENTRIES));
  }
  return {
    nameservers: bounded(nameservers),
    search: bounded(search),
    options: bounded(options),
    ...(domain === undefined ? {} : { domain: domain.slice(0, MOST_CHARACTERS) }),
  };
}

/** The addresses that are asked, in order. Zones of link-local addresses are left out: they mean nothing in another namespace. */
export function askedNameservers({ nameservers }: Pick<ResolvConf, "nameservers">): string[] {
  return nameservers
    .map((one) => one.replace(/%.*$/, ""))
    .filter(isIp)
    .slice(0, MOST_ASKED);
}

function bounded(entries: readonly string[]): string[] {
  return entries.slice(0, MOST_ENTRIES).map((entry) => entry.slice(0, MOST_CHARACTERS));
}
