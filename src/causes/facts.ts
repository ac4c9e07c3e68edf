/** Small facts by which a prediction and a packet that was seen are both judged. Pure. */

/** Prefixes that the internet does not route: private use, shared, link-local, unique local. RFC 6890. */
export function isPrivateAddress(address: string): boolean {
  if (address.includes(":")) return /^(?:f[cd]|fe[89ab])/i.test(address);
  const [a = 0, b = 0] = address.split(".").map(Number);
  return (
    a === 10 ||
    (a === 172 && b >= 16 && b < 32) ||
    (a === 192 && b === 168) ||
    (a === 100 && b >= 64 && b < 128) ||
    (a === 169 && b === 254)
  );
}

/** Whether nobody at the destination has a way back to the source: private networks know each other, the internet none. */
export function needsTranslation(source: string, destination: string): boolean {
  return isPrivateAddress(source) && !isPrivateAddress(destination);
}
