/** Tests with a browser: Debian's chromium, started by root, which only the machine's own root can. */
import { isRealRoot, testWith } from "../support/witness.ts";

const PROGRAMS = ["chromium", "curl", "iptables"] as const;

export const testPage = testWith(["real-root", ...PROGRAMS]);
/** Whether such tests run here. */
export const able = isRealRoot && PROGRAMS.every((program) => Bun.which(program) !== null);
