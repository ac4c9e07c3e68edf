import { AddressError, HEX_DIGITS } from "./ip.ts";

/** Six bytes of `02:00:00:00:00:01`. @throws AddressError */
export function macBytes(text: string): Uint8Array {
  if (!/^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$/.test(text)) {
    throw new AddressError(text, "is not a MAC address (like 02:00:00:00:00:01)");
  }
  const bytes = new Uint8Array(6);
  for (let i = 0; i < 6; i++) bytes[i] = Number.parseInt(text.slice(3 * i, 3 * i + 2), 16);
  return bytes;
}

/** Lower-case text of a link-layer address of any length, as Linux prints it. */
export function macText(bytes: Uint8Array, start = 0, end = bytes.length): string {
  let text = "";
  for (let i = start; i < end; i++) {
    const byte = bytes[i]!;
    if (i > start) text += ":";
    // A dump of links asks for thousands; toString(16) and padStart are calls into the runtime.
    text += HEX_DIGITS[byte >> 4]! + HEX_DIGITS[byte & 15]!;
  }
  return text;
}

/**
 * A stable unicast MAC for an IPv4 or IPv6 address: locally administered (IEEE 802 bit 1 of the first octet), so that
 * it cannot be a vendor's; the last four bytes come from the address.
 */
export function macForIp(bytes: Uint8Array): string {
  return macText(Uint8Array.of(0x0a, 0x58, ...bytes.subarray(bytes.length - 4)));
}
