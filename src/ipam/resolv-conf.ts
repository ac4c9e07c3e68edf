import { parseResolvConf } from "../linux/resolv-conf.ts";
import type { Dns } from "./assignment.ts";

/** What a resolv.conf says, as a CNI result has it: what it does not say is absent. */
export function dnsOf(text: string): Dns {
  const { nameservers, domain, search, options } = parseResolvConf(text);
  return {
    ...(nameservers.length === 0 ? {} : { nameservers }),
    ...(domain === undefined ? {} : { domain }),
    ...(search.length === 0 ? {} : { search }),
    ...(options.length === 0 ? {} : { options }),
  };
}
