/** Buckets of xt_hashlimit, as the kernel shows them in /proc/net/ipt_hashlimit and /proc/net/ip6t_hashlimit. */
import { codeOf } from "../error.ts";
import { readdirSync, readFileSync } from "node:fs";
import { parseHashlimit, type HashlimitTable } from "../linux/xtables/hashlimit-table.ts";

const FOLDERS = [
  [4, "/proc/thread-self/net/ipt_hashlimit"],
  [6, "/proc/thread-self/net/ip6t_hashlimit"],
] as const;

/** A table of more lines than this is not read to its end: a limit by source port has one for every connection. */
const MOST_BYTES = 1024 * 1024;

/** Of the namespace that the thread is in; empty where nobody limits. */
export function readHashlimits(): HashlimitTable[] {
  return FOLDERS.flatMap(([family, folder]) =>
    names(folder).map((name) => ({
      name,
      family,
      buckets: parseHashlimit(readFileSync(`${folder}/${name}`, "latin1").slice(0, MOST_BYTES)),
    })),
  );
}

function names(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if (codeOf(error) === "ENOENT") return [];
    throw error;
  }
}
