/**
 * Numbers that stand for what flows have in common, so that hundreds of thousands of them can be counted without making
 * a text of each. 53 bits: of a million different things two have the same number once in 20 000 tables.
 */

/** Collects words of 32 bits. One object serves a whole scan. */
export class FlowHash {
  #a = 0;
  #b = 0;

  begin(): this {
    this.#a = 0x9e37_79b9 | 0;
    this.#b = 0x85eb_ca6b | 0;
    return this;
  }

  word(value: number): this {
    this.#a = Math.imul(this.#a ^ value, 0x9e37_79b1);
    this.#a ^= this.#a >>> 15;
    this.#b = Math.imul(this.#b ^ value, 0xc2b2_ae35);
    this.#b ^= this.#b >>> 13;
    return this;
  }

  /** An address as it stands in memory. @param at where its 4 or 16 bytes begin */
  address(view: DataView, at: number, family: 4 | 6): this {
    for (let end = at + (family === 4 ? 4 : 16); at < end; at += 4) this.word(view.getInt32(at));
    return this;
  }

  get value(): number {
    return (this.#a >>> 0) * 0x20_0000 + (this.#b >>> 11);
  }
}
