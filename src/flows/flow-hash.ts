/**
 * Numbers that stand for what flows have in common, so that hundreds of thousands of them can be counted without making
 * a text of each. 64 bits in two words: of a million different things two have the same number once in 30 million tables.
 */

/** Collects words of 32 bits. One object serves a whole scan. */
export class FlowHash {
  /** As signed words, which cost nothing to make or to compare. */
  low = 0;
  high = 0;

  begin(): this {
    this.low = 0x9e37_79b9 | 0;
    this.high = 0x85eb_ca6b | 0;
    return this;
  }

  word(value: number): this {
    const low = Math.imul(this.low ^ value, 0x9e37_79b1);
    this.low = low ^ (low >>> 15);
    const high = Math.imul(this.high ^ value, 0xc2b2_ae35);
    this.high = high ^ (high >>> 13);
    return this;
  }

  /** An address as it stands in memory. @param at where its 4 or 16 bytes begin */
  address(view: DataView, at: number, family: 4 | 6): this {
    for (let end = at + (family === 4 ? 4 : 16); at < end; at += 4) this.word(view.getInt32(at));
    return this;
  }

  /** As one number, of 53 bits: for the key of a Map. */
  get value(): number {
    return (this.low >>> 0) * 0x20_0000 + (this.high >>> 11);
  }
}
