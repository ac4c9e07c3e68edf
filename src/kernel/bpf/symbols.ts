/** Which function of the kernel an address lies in, by /proc/kallsyms. */
import { readFileSync } from "node:fs";

/** The function, or undefined where the kernel does not show addresses (kptr_restrict) or has no such table. */
export function kernelFunctionAt(address: bigint): string | undefined {
  let text: string;
  try {
    text = readFileSync("/proc/kallsyms", "latin1");
  } catch {
    return undefined;
  }
  // Addresses of equal width: as text they compare as the numbers do.
  const wanted = address.toString(16).padStart(16, "0");
  let best = "";
  let name: string | undefined;
  for (let start = 0; start < text.length;) {
    const end = text.indexOf("\n", start);
    const at = text.slice(start, start + 16);
    if (at <= wanted && at > best) {
      best = at;
      name = /^\S+/.exec(text.slice(start + 19, end < 0 ? undefined : end))?.[0];
    }
    if (end < 0) break;
    start = end + 1;
  }
  return best === "0".repeat(16) ? undefined : name;
}
