/** Text and hexadecimal digits as bytes, and hashes of them. Values go in and come out: nothing is opened. */
import { platform } from "#platform";

export function encodeUtf8(text: string): Uint8Array<ArrayBuffer> {
  return platform.encodeUtf8(text);
}

export function decodeUtf8(bytes: Uint8Array): string {
  return platform.decodeUtf8(bytes);
}

/** How many bytes a text takes. */
export function utf8Length(text: string): number {
  return platform.encodeUtf8(text).length;
}

/** Two lower-case digits a byte. */
export function hexOf(bytes: Uint8Array): string {
  return bytes.toHex();
}

/** The bytes up to the first two characters that are not a byte's digits. */
export function bytesOfHex(text: string): Uint8Array<ArrayBuffer> {
  const whole = /^(?:[0-9a-f]{2})*/i.exec(text)![0];
  return Uint8Array.fromHex(whole);
}

/** SHA-2 (FIPS 180-4) of a text's UTF-8, in lower-case hexadecimal digits. */
export function shaHex(algorithm: "sha256" | "sha512", text: string): string {
  const hasher = platform.hasher(algorithm);
  hasher.update(text);
  return hasher.digestHex();
}
