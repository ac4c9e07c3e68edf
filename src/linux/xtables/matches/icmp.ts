import { describe, type XtDescription } from "../describe.ts";
import { option } from "../info.ts";

export interface IcmpMatch {
  /** Undefined: any. */
  readonly type: number | undefined;
  readonly firstCode: number;
  readonly lastCode: number;
  readonly not: boolean;
}

/** struct ipt_icmp, struct ip6t_icmp: type 0, code 1 to 2, invflags 3. ICMPv4's type 255 is any. */
function icmpMatch(name: string, optionName: string): XtDescription<IcmpMatch> {
  return describe({
    name,
    revisions: [0],
    read: (info) => ({
      type: name === "icmp" && info.u8(0) === 255 ? undefined : info.u8(0),
      firstCode: info.u8(1),
      lastCode: info.u8(2),
      not: (info.u8(3) & 1) !== 0,
    }),
    options({ type, firstCode, lastCode, not }) {
      const isAnyCode = firstCode === 0 && lastCode === 0xff;
      const text = type === undefined ? "any" : isAnyCode ? `${type}` : `${type}/${firstCode}`;
      return [option(optionName, text, not)];
    },
  });
}

export const icmp = icmpMatch("icmp", "--icmp-type");
export const icmp6 = icmpMatch("icmp6", "--icmpv6-type");
