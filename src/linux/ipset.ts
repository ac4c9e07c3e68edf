/** What ipsets hold (`-m set --match-set`), as far as it can be told of a packet of which not everything is known. Pure. */
import { prefixContains } from "../address/cidr.ts";
import { ipFamily, ipNumber, type IpFamily } from "../address/ip.ts";

/** From which side of the packet a part of the key is taken. */
export type IpsetSide = "src" | "dst";

export interface IpsetContents {
  /** `hash:ip`, `hash:net`, `hash:ip,port`, `list:set`, `bitmap:port` … */
  readonly type: string;
  /** Sets of ports or of other sets have none of their own, and say 4. */
  readonly family: IpFamily;
  readonly entries: readonly IpsetEntry[];
}

/** As `ipset save` writes it, without options: `10.0.0.0/8`, `10.0.0.1,tcp:80`. */
export interface IpsetEntry {
  readonly value: string;
  /** An exception within a larger prefix. */
  readonly nomatch: boolean;
}

/** The packet, as far as it is known. */
export interface IpsetQuestion {
  readonly family: IpFamily;
  /** Whether a part of an entry (`net`, `port` …) fits; undefined: that cannot be told. */
  readonly fits: (part: string, text: string, side: IpsetSide) => boolean | undefined;
  /** A member of a list of sets. */
  readonly member: (name: string) => IpsetContents | undefined;
}

/** The kernel has no lists of lists; a description of some may. */
const DEEPEST_LIST = 4;

/** Whether the packet is in the set; undefined: that cannot be told. */
export function ipsetHolds(
  set: IpsetContents,
  sides: readonly IpsetSide[],
  question: IpsetQuestion,
  depth = 0,
): boolean | undefined {
  const [method, fields = ""] = set.type.split(":");
  if (method === "list")
    return any(
      set.entries.map(({ value }) => {
        const member = depth < DEEPEST_LIST ? question.member(value) : undefined;
        return member !== undefined && ipsetHolds(member, sides, question, depth + 1);
      }),
    );
  if (set.family !== question.family) return false;
  const parts = fields.split(",");
  const fits = ({ value }: IpsetEntry): boolean | undefined => entryFits(parts, value, sides, question);
  const held = any(set.entries.filter(({ nomatch }) => !nomatch).map(fits));
  if (held === false) return false;
  // hash:net with "nomatch": an exception inside a larger prefix.
  const excepted = any(set.entries.filter(({ nomatch }) => nomatch).map(fits));
  return excepted === false ? held : excepted === true ? false : undefined;
}

function entryFits(
  parts: readonly string[],
  value: string,
  sides: readonly IpsetSide[],
  { fits }: IpsetQuestion,
): boolean | undefined {
  const values = value.split(",");
  const answers = parts.map((part, index) => {
    const [text, side] = [values[index], sides[index]];
    return text === undefined || side === undefined ? undefined : fits(part, text, side);
  });
  return answers.includes(false) ? false : answers.includes(undefined) ? undefined : true;
}

function any(answers: readonly (boolean | undefined)[]): boolean | undefined {
  return answers.includes(true) ? true : answers.includes(undefined) ? undefined : false;
}

/** Whether an entry's part `10.0.0.1`, `10.0.0.0/8` or `10.0.0.1-10.0.0.9` holds an address. */
export function ipsetAddressHolds(text: string, address: string): boolean {
  const [first, last] = text.split("-");
  if (last === undefined || first === undefined) return prefixContains(text, address);
  if (ipFamily(first) !== ipFamily(address)) return false;
  const number = ipNumber(address);
  return number >= ipNumber(first) && number <= ipNumber(last);
}
