/**
 * The values of an array that was made with BPF_F_MMAPABLE, as memory of this process: what is written there, programs see at
 * once, and no call is made for it.
 */
import { checked } from "../calls.ts";
import { platform } from "#platform";
import { memoryAt } from "../../platform/bun.ts";
import type { BpfMap } from "./map.ts";

const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;

export interface SharedMemory extends Disposable {
  /** The first value; each takes a multiple of eight bytes. */
  readonly words: BigInt64Array;
  /** Where it lies in this process, for its other threads. */
  readonly address: number;
}

/** @throws SystemError EPERM where the map was not made for it */
export function sharedMemoryOf(map: BpfMap): SharedMemory {
  const { valueBytes, entries } = map.definition;
  const bytes = ((valueBytes + 7) & ~7) * entries;
  const [mmap, munmap] = platform.arch === "arm64" ? [222, 215] : [9, 11];
  const address = checked(
    "mmap",
    Number(platform.libc.syscall(mmap, 0, bytes, PROT_READ_WRITE, MAP_SHARED, map.fd, 0)),
  );
  return {
    words: new BigInt64Array(memoryAt(address, bytes)),
    address,
    [Symbol.dispose]: () => void platform.libc.syscall(munmap, address, bytes, 0, 0, 0, 0),
  };
}
