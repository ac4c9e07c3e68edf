/**
 * bpf(2): programs, raw tracepoints, programs of a cgroup, and the maps that those fill. What was made lives as long as its
 * file descriptor.
 */
import { closeSync, openSync } from "node:fs";
import { SystemError } from "../../linux/errno.ts";
import * as libc from "../libc.ts";

const SYS_BPF = process.arch === "arm64" ? 280 : 321;

/** enum bpf_cmd */
export const BPF_MAP_CREATE = 0;
export const BPF_MAP_LOOKUP_ELEM = 1;
const BPF_PROG_LOAD = 5;
const BPF_RAW_TRACEPOINT_OPEN = 17;
const BPF_BTF_LOAD = 18;
const BPF_MAP_LOOKUP_AND_DELETE_ELEM = 21;
export const BPF_LINK_CREATE = 28;

const BPF_MAP_TYPE_LRU_HASH = 9;
const BPF_MAP_TYPE_QUEUE = 22;
/** enum bpf_prog_type */
const PROGRAM_TYPES = { trafficControl: 3, rawTracepoint: 17, cgroupSysctl: 23 } as const;
/** enum bpf_attach_type */
const BPF_CGROUP_SYSCTL = 18;

/** include/uapi/linux/btf.h */
const BTF_MAGIC = 0xeb9f;

/** Some helpers (probe_read_kernel) are only for programs that say so. */
const LICENSE = "GPL";
const LOG_BYTES = 1024 * 1024;

/** union bpf_attr, zeroed; larger than any command that is used here. */
export function attributes(): { readonly bytes: Uint8Array; readonly view: DataView } {
  const bytes = new Uint8Array(128);
  return { bytes, view: new DataView(bytes.buffer) };
}

export function bpf(command: number, attributes: Uint8Array): number {
  return libc.syscallWithBuffer("bpf", SYS_BPF, command, attributes);
}

/**
 * bpf(2) for what makes maps and programs. Before Linux 5.11 the kernel counts their memory as locked, and refuses with
 * EPERM when that is more than RLIMIT_MEMLOCK: 64 KiB on most machines. Who may raise the limit may load programs.
 */
export function make(command: number, attributes: Uint8Array): number {
  try {
    return bpf(command, attributes);
  } catch (error) {
    if (!(error instanceof SystemError) || error.code !== "EPERM" || !libc.unlimitLockedMemory()) throw error;
    return bpf(command, attributes);
  }
}

/** A program that the verifier refused, with what it said. */
export class VerifierError extends Error {
  override readonly name = "VerifierError";
  constructor(
    readonly program: string,
    readonly log: string,
    override readonly cause: SystemError,
  ) {
    const lines = log.trim().split("\n");
    const said = lines.findLast((line) => !line.startsWith("processed ") && line !== "") ?? cause.message;
    super(`loading the BPF program ${program}: the kernel says: ${said}`);
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
    const { bytes, view } = attributes();
    view.setUint32(0, BPF_MAP_TYPE_QUEUE, true);
    view.setUint32(8, valueBytes, true);
    view.setUint32(12, entries, true);
    bytes.set(objectName(name), 28);
    return new BpfQueue(make(BPF_MAP_CREATE, bytes), valueBytes);
  }

  /** The oldest value, copied; undefined when the queue is empty. */
  pop(): Uint8Array | undefined {
    try {
      bpf(BPF_MAP_LOOKUP_AND_DELETE_ELEM, this.#pop.bytes);
      return this.#value.slice();
    } catch (error) {
      if (error instanceof SystemError && error.code === "ENOENT") return undefined;
      throw error;
    }
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
    const { bytes, view } = attributes();
    view.setUint32(0, BPF_MAP_TYPE_LRU_HASH, true);
    view.setUint32(4, 4, true);
    view.setUint32(8, valueBytes, true);
    view.setUint32(12, entries, true);
    bytes.set(objectName(name), 28);
    return new BpfRecentMap(make(BPF_MAP_CREATE, bytes), valueBytes);
  }

  /** Copied; undefined when there is none. */
  get(key: number): Uint8Array | undefined {
    this.#key[0] = key;
    try {
      bpf(BPF_MAP_LOOKUP_ELEM, this.#lookup.bytes);
      return this.#value.slice();
    } catch (error) {
      if (error instanceof SystemError && error.code === "ENOENT") return undefined;
      throw error;
    }
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
  const fd = loadProgram(name, program, "cgroupSysctl");
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
  const fd = loadProgram(name, program, "rawTracepoint");
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

/** Loads a program and returns its descriptor. @throws SystemError EPERM; VerifierError */
export function loadProgram(
  name: string,
  program: Uint8Array,
  type: keyof typeof PROGRAM_TYPES,
  options: { readonly license?: string; readonly functions?: readonly number[] } = {},
): number {
  const license = Buffer.from(`${options.license ?? LICENSE}\0`);
  const functions = options.functions ?? [];
  // Only functions that are called back must be described to the kernel.
  const types = functions.length > 1 ? loadTypes() : undefined;
  const records = new Uint32Array(functions.flatMap((start) => [start, types?.function ?? 0]));
  const { bytes, view } = attributes();
  view.setUint32(0, PROGRAM_TYPES[type], true);
  view.setUint32(4, program.length / 8, true);
  view.setBigUint64(8, libc.pointerTo(program), true);
  view.setBigUint64(16, libc.pointerTo(license), true);
  bytes.set(objectName(name), 48);
  if (types !== undefined) {
    view.setUint32(72, types.fd, true);
    view.setUint32(76, 8, true);
    view.setBigUint64(80, libc.pointerTo(new Uint8Array(records.buffer)), true);
    view.setUint32(88, functions.length, true);
  }
  try {
    return make(BPF_PROG_LOAD, bytes);
  } catch (error) {
    if (!(error instanceof SystemError) || error.code === "EPERM") throw error;
    // Once more, for the verifier's explanation; a log costs time, so a good program is loaded without.
    const log = new Uint8Array(LOG_BYTES);
    view.setUint32(24, 1, true);
    view.setUint32(28, LOG_BYTES, true);
    view.setBigUint64(32, libc.pointerTo(log), true);
    try {
      return bpf(BPF_PROG_LOAD, bytes);
    } catch {
      throw new VerifierError(name, Buffer.from(log).toString().replace(/\0.*$/s, ""), error);
    }
  } finally {
    if (types !== undefined) closeSync(types.fd);
  }
}

/**
 * The least description of types (BTF, Documentation/bpf/btf.rst) by which a function may be called back: a number of eight
 * bytes, a prototype that returns one, a static function of that prototype.
 */
function loadTypes(): { readonly fd: number; readonly function: number } {
  const [INT, FUNC, FUNC_PROTO] = [1, 12, 13];
  // Of each type: name, kind, size or type; of INT one word more: signed (1 << 24), and its bits.
  const types = [1, INT << 24, 8, (1 << 24) | 64, 0, FUNC_PROTO << 24, 1, 6, FUNC << 24, 2];
  const strings = "\0long\0step\0";
  const words = new Uint32Array([
    BTF_MAGIC | (1 << 16),
    24,
    0,
    types.length * 4,
    types.length * 4,
    strings.length,
  ]);
  const description = Buffer.concat([
    new Uint8Array(words.buffer),
    new Uint8Array(new Uint32Array(types).buffer),
    Buffer.from(strings),
  ]);
  const { bytes, view } = attributes();
  view.setBigUint64(0, libc.pointerTo(description), true);
  view.setUint32(16, description.length, true);
  return { fd: make(BPF_BTF_LOAD, bytes), function: 3 };
}

/** BPF_OBJ_NAME_LEN: 15 bytes and a NUL; letters, digits, `_` and `.`. */
export function objectName(name: string): Uint8Array {
  return Buffer.from(name).subarray(0, 15);
}
