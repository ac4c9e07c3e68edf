import { writeSync } from "node:fs";
import { poll } from "../kernel/libc.ts";
import { POLLERR, POLLOUT } from "../linux/socket.ts";

const STDOUT = 1;

/** The reader of our output has gone (`| head`). Not a failure: there is nobody left to tell. */
export class OutputClosed extends Error {
  override readonly name = "OutputClosed";
}

/**
 * Writes all of it to stdout, in one call where the other side takes it. process.stdout would keep what a slow reader
 * does not take in memory. @throws OutputClosed
 */
export function writeOut(bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length;) {
    try {
      at += writeSync(STDOUT, bytes, at, bytes.length - at);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "EPIPE") throw new OutputClosed();
      if (code !== "EAGAIN") throw error;
      // Another process made the pipe or terminal non-blocking.
      poll([{ fd: STDOUT, events: POLLOUT, revents: 0 }], -1);
    }
  }
}

/** @throws OutputClosed when nobody reads any more, which a process that has nothing to say would never learn */
export function checkOutput(): void {
  const entry = { fd: STDOUT, events: 0, revents: 0 };
  if (poll([entry], 0) > 0 && (entry.revents & POLLERR) !== 0) throw new OutputClosed();
}

/** Runs a command that writes with writeOut; ends it quietly when its reader goes away. */
export async function untilOutputCloses(command: () => void | Promise<void>): Promise<void> {
  try {
    await command();
  } catch (error) {
    if (!(error instanceof OutputClosed)) throw error;
  }
}
