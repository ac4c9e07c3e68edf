/**
 * Where in a policy's file the prefix stands that decides about an address. For files of ours and of ip-masq-agent, whose
 * keys may be in any case. Pure.
 */
import { cidrContains, cidrText, parseCidr, type Cidr } from "../address/cidr.ts";
import { AddressError } from "../address/ip.ts";

/** Lists of prefixes that a policy has, as they are written here. */
const LISTS = ["sources", "nonMasqueradeCIDRs", "masqueradeCIDRs"] as const;
export type PolicyList = (typeof LISTS)[number];

export interface FilePlace {
  readonly file: string;
  /** 1-based. */
  readonly line: number;
  /** `nonMasqueradeCIDRs[2]` */
  readonly path: string;
  /** As canonical text. */
  readonly cidr: string;
}

interface WrittenPrefix extends FilePlace {
  readonly list: PolicyList;
  readonly value: Cidr;
}

export class WrittenPolicy {
  private constructor(private readonly prefixes: readonly WrittenPrefix[]) {}

  /** Of a file that was accepted; what is no prefix in it is passed over. */
  static async read(
    files: readonly { readonly name: string; readonly text: string }[],
  ): Promise<WrittenPolicy> {
    // Only this needs a YAML parser.
    const { isMap, isScalar, isSeq, LineCounter, parseDocument } = await import("yaml");
    const prefixes: WrittenPrefix[] = [];
    for (const { name, text } of files) {
      const lines = new LineCounter();
      const { contents } = parseDocument(text, { lineCounter: lines });
      const items = isMap(contents) ? contents.items : [];
      for (const list of LISTS) {
        // Of several the last counts, where a file may have several.
        const value = items.findLast(
          ({ key }) => isScalar(key) && String(key.value).toLowerCase() === list.toLowerCase(),
        )?.value;
        if (!isSeq(value)) continue;
        for (const [index, item] of value.items.entries()) {
          const node = isMap(item) ? item.get("cidr", true) : item;
          const cidr = isScalar(node) ? cidrOf(node.value) : undefined;
          if (cidr === undefined || !isScalar(node)) continue;
          const { line } = lines.linePos(node.range?.[0] ?? 0);
          prefixes.push({
            file: name,
            line,
            path: `${list}[${index}]`,
            cidr: cidrText(cidr),
            list,
            value: cidr,
          });
        }
      }
    }
    return new WrittenPolicy(prefixes);
  }

  /** The longest prefix around an address in one of these lists. */
  around(address: string, ...lists: readonly PolicyList[]): FilePlace | undefined {
    const [longest] = this.prefixes
      .filter(({ list, value }) => lists.includes(list) && cidrContains(value, address))
      .sort((a, b) => b.value.prefixLength - a.value.prefixLength);
    if (longest === undefined) return undefined;
    const { file, line, path, cidr } = longest;
    return { file, line, path, cidr };
  }
}

function cidrOf(value: unknown): Cidr | undefined {
  try {
    return typeof value === "string" ? parseCidr(value) : undefined;
  } catch (error) {
    if (error instanceof AddressError) return undefined;
    throw error;
  }
}
