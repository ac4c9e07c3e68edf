/**
 * A thread that does nothing but count in a word of memory what is announced on some sockets, and changes of some files that
 * nobody announces: for a decision that must not stand a moment longer than what it was made of, however busy the event loop
 * is. What it was is not read.
 */
import { FFI_OF_THREADS, functionAddresses } from "../../platform/bun.ts";
import { closeFile, isMissing, openFile } from "../file.ts";
import type { NetworkNamespace } from "../namespace.ts";
import { openTransport } from "./transport.ts";
import { POLLIN } from "../../linux/socket.ts";

/** Files are read this often. */
const LOOK_EVERY_MS = 20;
const FILE_BYTES = 4096;
const BUFFER_BYTES = 64 * 1024;
const STOP = 0;

/** Text, so that it needs no file of its own in a single-file build. */
const THREAD = `
${FFI_OF_THREADS}
import { readSync } from "node:fs";
self.onmessage = ({ data: { shared, sockets, files, address, poll: at } }) => {
  const words = new Int32Array(shared);
  const turns = new BigInt64Array(toArrayBuffer(address, 0, 8));
  const poll = CFunction({ ptr: at, args: ["ptr", "u64", "i32"], returns: "i32" });
  const asked = new Int16Array(4 * sockets.length);
  const fds = new Int32Array(asked.buffer);
  const buffer = new Uint8Array(${BUFFER_BYTES});
  const seen = files.map(() => undefined);
  postMessage("counts");
  const turn = () => {
    Atomics.add(turns, 0, 1n);
    postMessage("turn");
  };
  while (Atomics.load(words, ${STOP}) === 0) {
    sockets.forEach((fd, index) => {
      fds[2 * index] = fd;
      asked[4 * index + 2] = ${POLLIN};
      asked[4 * index + 3] = 0;
    });
    poll(ptr(asked), sockets.length, ${LOOK_EVERY_MS});
    sockets.forEach((fd, index) => {
      if (asked[4 * index + 3] === 0) return;
      // Before it is taken: it is the only thing that must not wait.
      turn();
      try {
        readSync(fd, buffer, 0, buffer.length, null);
      } catch {
        // Some were lost, and so there were some.
      }
    });
    files.forEach((fd, index) => {
      let text;
      try {
        text = String.fromCharCode(...buffer.subarray(0, readSync(fd, buffer, 0, ${FILE_BYTES}, 0)));
      } catch (error) {
        text = String(error);
      }
      if (seen[index] !== undefined && seen[index] !== text) turn();
      seen[index] = text;
    });
  }
  postMessage("ended");
  close();
};
`;

export interface Announced {
  readonly protocol: number;
  /** Multicast groups, by number. */
  readonly groups: readonly number[];
}

export class TurnThread {
  readonly #shared = new SharedArrayBuffer(4);
  readonly #thread: Worker;
  readonly #ended: Promise<void>;
  #counts = false;

  /**
   * What comes from now on is counted, at once when `counts` says so.
   * @param address of eight bytes of this process's memory, which must stay until it is closed
   * @param files below /proc that are read as they are in the namespace; those that are not there are left out
   * @param changed hears of it afterwards, when the event loop has time
   * @throws SystemError EPERM without privilege
   */
  constructor(
    namespace: NetworkNamespace,
    address: number,
    announced: readonly Announced[],
    files: readonly string[],
    changed: () => void,
  ) {
    const sockets = announced.map(({ protocol, groups }) => {
      const socket = openTransport(protocol, { namespace });
      for (const group of groups) socket.join(group);
      return socket;
    });
    const opened = namespace.run(() => files.flatMap(openedIfThere));
    const url = URL.createObjectURL(new Blob([THREAD], { type: "application/javascript" }));
    this.#thread = new Worker(url);
    this.#ended = new Promise((resolve) => {
      this.#thread.addEventListener("message", ({ data }: MessageEvent<"counts" | "turn" | "ended">) => {
        if (data === "counts") this.#counts = true;
        if (data !== "ended") return changed();
        for (const socket of sockets) socket.close();
        for (const fd of opened) closeFile(fd);
        URL.revokeObjectURL(url);
        resolve();
      });
    });
    this.#thread.postMessage(
      {
        shared: this.#shared,
        sockets: sockets.map(({ fd }) => fd),
        files: opened,
        address,
        poll: Number(functionAddresses(["poll"])[0]),
      },
      [],
    );
  }

  /** Whether the thread is at work. */
  get counts(): boolean {
    return this.#counts;
  }

  /** The thread ends in a moment, and its sockets with it. */
  close(): Promise<void> {
    Atomics.store(new Int32Array(this.#shared), STOP, 1);
    return this.#ended;
  }
}

function openedIfThere(path: string): number[] {
  try {
    return [openFile(path, "r")];
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}
