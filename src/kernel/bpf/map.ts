/** Maps of any kind, as bpf(2) has them: values by keys, in bytes. Pinned, one outlives the process that made it. */
import { ERRNO, SystemError } from "../../linux/errno.ts";
import type { MapDefinition } from "../../linux/bpf/object.ts";
import { closeFile, readText } from "../file.ts";
import { text } from "../calls.ts";
import { attributes, bpf, BPF_MAP_CREATE, BPF_MAP_LOOKUP_ELEM, objectName, pointerTo } from "./calls.ts";

/** enum bpf_cmd */
const BPF_MAP_UPDATE_ELEM = 2;
const BPF_MAP_DELETE_ELEM = 3;
const BPF_MAP_GET_NEXT_KEY = 4;
const BPF_OBJ_PIN = 6;
const BPF_OBJ_GET = 7;
export const BPF_OBJ_GET_INFO_BY_FD = 15;
const BPF_MAP_FREEZE = 22;
const BPF_MAP_LOOKUP_BATCH = 24;

/** enum bpf_map_type */
export const MAP_TYPES = { hash: 1, array: 2 } as const;
/** BPF_F_RDONLY_PROG: programs only read it. */
export const READ_ONLY_FOR_PROGRAMS = 128;

const BATCH = 4096;

/** A kernel object by a path below a mounted bpf file system; undefined when there is none. */
export function pinnedObject(path: string): number | undefined {
  const name = text(path);
  const { bytes, view } = attributes();
  view.setBigUint64(0, pointerTo(name), true);
  try {
    return bpf(BPF_OBJ_GET, bytes);
  } catch (error) {
    if (error instanceof SystemError && error.code === "ENOENT") return undefined;
    throw error;
  }
}

/** Gives a map, program or link a path below a mounted bpf file system. @throws SystemError EEXIST, EPERM when that is none */
export function pinObject(fd: number, path: string): void {
  const name = text(path);
  const { bytes, view } = attributes();
  view.setBigUint64(0, pointerTo(name), true);
  view.setUint32(8, fd, true);
  bpf(BPF_OBJ_PIN, bytes);
}

/** What the kernel tells of an object: the first `length` bytes of struct bpf_map_info, bpf_prog_info or bpf_link_info. */
export function objectInfo(fd: number, length: number): DataView {
  const info = new Uint8Array(new ArrayBuffer(length));
  const { bytes, view } = attributes();
  view.setUint32(0, fd, true);
  view.setUint32(4, length, true);
  view.setBigUint64(8, pointerTo(info), true);
  bpf(BPF_OBJ_GET_INFO_BY_FD, bytes);
  return new DataView(info.buffer);
}

export class BpfMap implements Disposable {
  readonly #key: Uint8Array;
  readonly #value: Uint8Array;
  readonly #ask = attributes();

  private constructor(
    readonly fd: number,
    readonly definition: MapDefinition,
  ) {
    // Over buffers of their own: the engine may move a small array's bytes when its buffer is first asked for.
    this.#key = new Uint8Array(new ArrayBuffer(Math.max(definition.keyBytes, 1)));
    this.#value = new Uint8Array(new ArrayBuffer(definition.valueBytes));
    this.#ask.view.setUint32(0, fd, true);
    if (definition.keyBytes > 0) this.#ask.view.setBigUint64(8, pointerTo(this.#key), true);
    this.#ask.view.setBigUint64(16, pointerTo(this.#value), true);
  }

  /** @throws SystemError EPERM without CAP_BPF, ENOMEM, EINVAL where the kernel has no such kind of map */
  static create(definition: MapDefinition): BpfMap {
    return new BpfMap(bpf(BPF_MAP_CREATE, mapAttributes(definition)), definition);
  }

  /** The map at a path, with the sizes that the kernel tells of it; undefined when there is none. */
  static pinned(path: string, name: string): BpfMap | undefined {
    const fd = pinnedObject(path);
    if (fd === undefined) return undefined;
    // struct bpf_map_info: type, id, key_size, value_size, max_entries, map_flags.
    const info = objectInfo(fd, 24);
    const number = (index: number): number => info.getUint32(index * 4, true);
    return new BpfMap(fd, {
      name,
      type: number(0),
      keyBytes: number(2),
      valueBytes: number(3),
      entries: number(4),
      flags: number(5),
    });
  }

  /** By which the kernel knows it, whatever names it has. */
  get id(): number {
    return objectInfo(this.fd, 8).getUint32(4, true);
  }

  /** Copied; undefined when there is none. */
  get(key: Uint8Array): Uint8Array | undefined {
    this.#key.set(key);
    return unlessMissing(BPF_MAP_LOOKUP_ELEM, this.#ask.bytes) ? this.#value.slice() : undefined;
  }

  /** @throws SystemError E2BIG when it is full */
  set(key: Uint8Array, value: Uint8Array): void {
    this.#key.set(key);
    this.#value.set(value);
    bpf(BPF_MAP_UPDATE_ELEM, this.#ask.bytes);
  }

  /** The sum of a number of eight bytes that each processor has for itself. @see BPF_MAP_TYPE_PERCPU_ARRAY */
  sum(index: number): bigint {
    const room = new Uint8Array(new ArrayBuffer(8 * possibleProcessors()));
    this.#key.set(new Uint8Array(Uint32Array.of(index).buffer));
    const { bytes, view } = attributes();
    view.setUint32(0, this.fd, true);
    view.setBigUint64(8, pointerTo(this.#key), true);
    view.setBigUint64(16, pointerTo(room), true);
    bpf(BPF_MAP_LOOKUP_ELEM, bytes);
    return new BigUint64Array(room.buffer).reduce((sum, one) => sum + one, 0n);
  }

  /** False when there was none. */
  delete(key: Uint8Array): boolean {
    this.#key.set(key);
    const { bytes, view } = attributes();
    view.setUint32(0, this.fd, true);
    view.setBigUint64(8, pointerTo(this.#key), true);
    return unlessMissing(BPF_MAP_DELETE_ELEM, bytes);
  }

  /** All keys, copied. What changes meanwhile may be missing, or be there twice. */
  keys(): Uint8Array[] {
    const { keyBytes } = this.definition;
    const next = new Uint8Array(new ArrayBuffer(keyBytes));
    const { bytes, view } = attributes();
    view.setUint32(0, this.fd, true);
    view.setBigUint64(16, pointerTo(next), true);
    const keys: Uint8Array[] = [];
    for (;;) {
      try {
        bpf(BPF_MAP_GET_NEXT_KEY, bytes);
      } catch (error) {
        if (error instanceof SystemError && error.code === "ENOENT") return keys;
        throw error;
      }
      keys.push(next.slice());
      this.#key.set(next);
      view.setBigUint64(8, pointerTo(this.#key), true);
    }
  }

  /** The values of an array from the first on, some thousands at a time. */
  *values(count: number): Generator<Uint8Array> {
    const { valueBytes } = this.definition;
    const values = new Uint8Array(valueBytes * BATCH);
    const keys = new Uint8Array(4 * BATCH);
    const token = new Uint8Array(4);
    for (let done = 0; done < count;) {
      const { bytes, view } = attributes();
      if (done > 0) view.setBigUint64(0, pointerTo(token), true);
      view.setBigUint64(8, pointerTo(token), true);
      view.setBigUint64(16, pointerTo(keys), true);
      view.setBigUint64(24, pointerTo(values), true);
      view.setUint32(32, Math.min(BATCH, count - done), true);
      view.setUint32(36, this.fd, true);
      try {
        bpf(BPF_MAP_LOOKUP_BATCH, bytes);
      } catch (error) {
        // The last one was told.
        if (!(error instanceof SystemError && error.errno === ERRNO.ENOENT)) throw error;
      }
      const got = view.getUint32(32, true);
      if (got === 0) return;
      for (let index = 0; index < got; index++)
        yield values.slice(index * valueBytes, (index + 1) * valueBytes);
      done += got;
    }
  }

  /** From now on only programs change it. */
  freeze(): void {
    const { bytes, view } = attributes();
    view.setUint32(0, this.fd, true);
    bpf(BPF_MAP_FREEZE, bytes);
  }

  [Symbol.dispose](): void {
    closeFile(this.fd);
  }
}

/** The kernel fills in a value for each, whether it is there or not: "0-3", "0,2-7". */
function possibleProcessors(): number {
  const last = /(\d+)\s*$/.exec(readText("/sys/devices/system/cpu/possible"))?.[1];
  return Number(last ?? 0) + 1;
}

/** False where the map has no such key. */
export function unlessMissing(command: number, attributes: Uint8Array): boolean {
  try {
    bpf(command, attributes);
    return true;
  } catch (error) {
    if (error instanceof SystemError && error.code === "ENOENT") return false;
    throw error;
  }
}

/** For BPF_MAP_CREATE. */
export function mapAttributes(definition: MapDefinition): Uint8Array {
  const { bytes, view } = attributes();
  const { type, keyBytes, valueBytes, entries, flags } = definition;
  for (const [index, number] of [type, keyBytes, valueBytes, entries, flags].entries())
    view.setUint32(index * 4, number, true);
  bytes.set(objectName(definition.name), 28);
  return bytes;
}
