/**
 * bpf(2): programs, raw tracepoints, programs of a cgroup, and the maps that those fill. What was made lives as long as its
 * file descriptor.
 */
import { mapAttributes, unlessMissing } from "./map.ts";
import { closeSync, openSync } from "node:fs";
import { SystemError } from "../../linux/errno.ts";
import * as libc from "../libc.ts";
import {
  attributes,
  bpf,
  BPF_LINK_CREATE,
  BPF_MAP_CREATE,
  BPF_MAP_LOOKUP_ELEM,
  loadProgram,
} from "./calls.ts";

/** enum bpf_cmd */
const BPF_RAW_TRACEPOINT_OPEN = 17;
const BPF_MAP_LOOKUP_AND_DELETE_ELEM = 21;

const BPF_MAP_TYPE_LRU_HASH = 9;
const BPF_MAP_TYPE_QUEUE = 22;
/** enum bpf_attach_type */
const BPF_CGROUP_SYSCTL = 18;

/**
 * bpf(2) for what makes maps and programs. Before Linux 5.11 the kernel counts their memory as locked, and refuses with
 * EPERM when that is more than RLIMIT_MEMLOCK: 64 KiB on most machines. Who may raise the limit may load programs.
 */
function make(command: number, attributes: Uint8Array): number {
  try {
    return bpf(command, attributes);
  } catch (error) {
    if (!(error instanceof SystemError) || error.code !== "EPERM" || !libc.unlimitLockedMemory()) throw error;
    return bpf(command, attributes);
  }
}

/** A first-in-first-out map: programs push values, we pop them. Needs no shared memory. @see BPF_MAP_TYPE_QUEUE */
export class BpfQueue implements Disposable {
  readonly #value: Uint8Array;
  readonly #pop = attributes();

  private constructor(
    readonly fd: number,
    valueBytes: number,
  ) {
    this.#value = new Uint8Array(valueBytes);
    this.#pop.view.setUint32(0, fd, true);
    this.#pop.view.setBigUint64(16, libc.pointerTo(this.#value), true);
  }

  /** @throws SystemError EPERM without CAP_BPF in the first user namespace */
  static create(name: string, valueBytes: number, entries: number): BpfQueue {
    const wanted = { name, type: BPF_MAP_TYPE_QUEUE, keyBytes: 0, valueBytes, entries, flags: 0 };
    return new BpfQueue(make(BPF_MAP_CREATE, mapAttributes(wanted)), valueBytes);
  }

  /** The oldest value, copied; undefined when the queue is empty. */
  pop(): Uint8Array | undefined {
    return unlessMissing(BPF_MAP_LOOKUP_AND_DELETE_ELEM, this.#pop.bytes) ? this.#value.slice() : undefined;
  }

  [Symbol.dispose](): void {
    closeSync(this.fd);
  }
}

/** Values by a 32-bit number; when it is full, what was used longest ago makes room. @see BPF_MAP_TYPE_LRU_HASH */
export class BpfRecentMap implements Disposable {
  readonly #key = new Uint32Array(1);
  readonly #value: Uint8Array;
  readonly #lookup = attributes();

  private constructor(
    readonly fd: number,
    valueBytes: number,
  ) {
    this.#value = new Uint8Array(valueBytes);
    this.#lookup.view.setUint32(0, fd, true);
    this.#lookup.view.setBigUint64(8, libc.pointerTo(new Uint8Array(this.#key.buffer)), true);
    this.#lookup.view.setBigUint64(16, libc.pointerTo(this.#value), true);
  }

  /** @throws SystemError EPERM without CAP_BPF in the first user namespace */
  static create(name: string, valueBytes: number, entries: number): BpfRecentMap {
    const wanted = { name, type: BPF_MAP_TYPE_LRU_HASH, keyBytes: 4, valueBytes, entries, flags: 0 };
    return new BpfRecentMap(make(BPF_MAP_CREATE, mapAttributes(wanted)), valueBytes);
  }

  /** Copied; undefined when there is none. */
  get(key: number): Uint8Array | undefined {
    this.#key[0] = key;
    return unlessMissing(BPF_MAP_LOOKUP_ELEM, this.#lookup.bytes) ? this.#value.slice() : undefined;
  }

  [Symbol.dispose](): void {
    closeSync(this.fd);
  }
}

/**
 * Attaches a program to every write of a sysctl by a process of the cgroup or of one below it, and returns the descriptor
 * that holds it there. @param directory of a cgroup of version 2
 * @throws SystemError EPERM; EINVAL on a kernel without it (before 5.7). VerifierError
 */
export function attachToSysctls(directory: string, name: string, program: Uint8Array): number {
  const fd = loadProgram(name, program, "cgroupSysctl", {}, make);
  const cgroup = openSync(directory, "r");
  try {
    const { bytes, view } = attributes();
    view.setUint32(0, fd, true);
    view.setUint32(4, cgroup, true);
    view.setUint32(8, BPF_CGROUP_SYSCTL, true);
    return bpf(BPF_LINK_CREATE, bytes);
  } finally {
    closeSync(cgroup);
    closeSync(fd);
  }
}

/**
 * Attaches a program to a raw tracepoint and returns the descriptor that holds it there.
 * @throws SystemError EPERM; ENOENT when the kernel has no such tracepoint. VerifierError
 */
export function attachRawTracepoint(tracepoint: string, name: string, program: Uint8Array): number {
  const fd = loadProgram(name, program, "rawTracepoint", {}, make);
  try {
    const { bytes, view } = attributes();
    const tracepointName = Buffer.from(`${tracepoint}\0`);
    view.setBigUint64(0, libc.pointerTo(tracepointName), true);
    view.setUint32(8, fd, true);
    return bpf(BPF_RAW_TRACEPOINT_OPEN, bytes);
  } finally {
    // The link holds the program.
    closeSync(fd);
  }
}
