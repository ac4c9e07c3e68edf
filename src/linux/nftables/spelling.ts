/** What nft's language has a way to write, and how. */
import { isVisible } from "../../text/visible.ts";

/** A name as nft takes it for a table or chain; undefined when it has no way to spell it. */
export function nftName(name: string): string | undefined {
  return /^[A-Za-z_.][A-Za-z0-9_./-]*$/.test(name) ? name : undefined;
}

/** An interface's name as nft compares it; undefined when it has no way to spell it. */
export function nftInterface(name: string): string | undefined {
  return /["\\]|\*$/.test(name) || !isVisible(name) ? undefined : `"${name}"`;
}

/** An interface's name as iptables compares it: a plus at its end would stand for anything. */
export function iptablesInterface(name: string): string | undefined {
  return /^!|\+$/.test(name) ? undefined : name;
}
