/** Files in which people write what they want, and which are read again and again: nothing of them may make us wait, or fill the memory. */
import { readFileSync, statSync } from "node:fs";

/** No file of settings is larger; more is a mistake, or an attack. */
const MOST_BYTES = 4 * 1024 * 1024;

/** @throws Error of the system; Error for what is no regular file (a FIFO would be waited for), or too large */
export function readSettings(path: string, mostBytes = MOST_BYTES): string {
  const about = statSync(path);
  if (!about.isFile()) throw new Error(`${path} is no regular file`);
  if (about.size > mostBytes)
    throw new Error(`${path} has ${about.size} bytes; at most ${mostBytes} are read`);
  return readFileSync(path, "utf8");
}
