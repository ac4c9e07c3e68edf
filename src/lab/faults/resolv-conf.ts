/** The resolv.conf that `ip netns exec ns-blue` binds over /etc: replaced for a while, and put back. */
import { codeOf } from "../../error.ts";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { removeIfEmpty } from "../../kernel/file.ts";
import { PLAN } from "../plan.ts";

const RESOLV_CONF = join("/etc/netns", PLAN.pods.blue.namespace, "resolv.conf");
const KEPT = `${RESOLV_CONF}.before`;

/** Another text for ns-blue, until `restoreResolvConf`. */
export function replaceResolvConf(text: string): void {
  mkdirSync(dirname(RESOLV_CONF), { recursive: true });
  keepOriginal();
  writeFileSync(RESOLV_CONF, text);
}

function keepOriginal(): void {
  try {
    writeFileSync(KEPT, readFileSync(RESOLV_CONF), { flag: "wx" });
  } catch (error) {
    // ENOENT: there was none. EEXIST: the fault was made twice, and the first original counts.
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT" && code !== "EEXIST") throw error;
  }
}

/** The file as it was, or none. Fine when it was not replaced. */
export function restoreResolvConf(): void {
  try {
    writeFileSync(RESOLV_CONF, readFileSync(KEPT));
    rmSync(KEPT);
  } catch (error) {
    if (codeOf(error) !== "ENOENT") throw error;
    rmSync(RESOLV_CONF, { force: true });
    for (const directory of [dirname(RESOLV_CONF), dirname(dirname(RESOLV_CONF))]) removeIfEmpty(directory);
  }
}
