/**
 * Text as the kernel has it, without Buffer: the first use of that costs a plugin call more than the whole of its
 * netlink encoding.
 */
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

export function encodeUtf8(text: string): Uint8Array<ArrayBuffer> {
  return encoder.encode(text);
}

export function decodeUtf8(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}

/** How many bytes a text takes. */
export function utf8Length(text: string): number {
  return encoder.encode(text).length;
}
