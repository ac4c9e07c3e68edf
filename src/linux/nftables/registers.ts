/** The registers that a rule's expressions share: sixteen words of 4 bytes, and one for the verdict. Pure. */

/** enum nft_registers. The verdict register, and the first of the four (1 to 4) of 16 bytes; 8…23 are the sixteen of 4 bytes. */
export const NFT_REG_VERDICT = 0;
export const NFT_REG_1 = 1;
export const NFT_REG32_00 = 8;

/** Which of the sixteen 4-byte words a data register begins at: NFT_REG_2 and NFT_REG32_04 are the same place. */
export function registerWord(register: number): number {
  return register < NFT_REG32_00 ? (register - NFT_REG_1) * 4 : register - NFT_REG32_00;
}

/** The register that begins at a 4-byte word. */
export function registerAt(word: number): number {
  return NFT_REG32_00 + word;
}
