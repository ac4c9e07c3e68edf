/** The mark of the packet (`mark`) and that of its connection (`connmark`): one structure. */
import { describe, type XtDescription } from "../describe.ts";
import { markText, option } from "../info.ts";

export interface MarkMatch {
  readonly mark: number;
  readonly mask: number;
  readonly not: boolean;
}

/** struct xt_mark_mtinfo1 and xt_connmark_mtinfo1. */
function markMatch(name: string): XtDescription<MarkMatch> {
  return describe({
    name,
    revisions: [1],
    read: (info) => ({ mark: info.u32(0), mask: info.u32(4), not: info.u8(8) !== 0 }),
    options: ({ mark, mask, not }) => [option("--mark", markText(mark, mask), not)],
  });
}

export const mark = markMatch("mark");
export const connmark = markMatch("connmark");
