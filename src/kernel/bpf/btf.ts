/**
 * The kernel's own description of its types, BTF (Documentation/bpf/btf.rst): where a field of a structure stands,
 * what the numbers of an enum are called. Several megabytes: only what is asked for is decoded.
 */
import { readFileSync } from "node:fs";
import { BTF_MAGIC } from "./calls.ts";

const BTF_PATH = "/sys/kernel/btf/vmlinux";

/**
 * What follows struct btf_type (12 bytes), by BTF_KIND_*: a fixed number of bytes, and so many for each member. In
 * order: void, INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FUNC_PROTO, VAR,
 * DATASEC, FLOAT, DECL_TAG, TYPE_TAG, ENUM64.
 */
const FIXED_BYTES = Uint8Array.of(0, 4, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 4, 0, 0);
const MEMBER_BYTES = Uint8Array.of(0, 0, 0, 0, 12, 12, 8, 0, 0, 0, 0, 0, 0, 8, 0, 12, 0, 0, 0, 12);
const STRUCT = 4;
const UNION = 5;
const ENUM = 6;
/** Kinds that only wrap another type: TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG. */
const WRAPPERS = new Set([8, 9, 10, 11, 18]);

export class Btf {
  readonly #view: DataView;
  readonly #bytes: Buffer;
  readonly #strings: number;
  /** Where each type stands, by its id. */
  readonly #offsets: Uint32Array;
  /** Where the named types stand, by kind and name. */
  readonly #named = new Map<string, number>();

  /**
   * @param names of the structures and enums that will be asked for: there are a hundred thousand types, and one walk
   *   over them finds these by their place among the strings
   * @throws Error when the bytes are no BTF
   */
  constructor(bytes: Uint8Array, names: readonly string[]) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    // struct btf_header: magic, version, flags, hdr_len, type_off, type_len, str_off, str_len.
    if (bytes.length < 24 || this.#view.getUint16(0, true) !== BTF_MAGIC) throw new Error("this is no BTF");
    const header = this.#view.getUint32(4, true);
    const types = header + this.#view.getUint32(8, true);
    const typesEnd = types + this.#view.getUint32(12, true);
    this.#strings = header + this.#view.getUint32(16, true);
    if (this.#strings + this.#view.getUint32(20, true) > bytes.length) throw new Error("this BTF is cut off");
    this.#offsets = this.#walk(types, typesEnd, names);
  }

  /** The running kernel's. @throws ENOENT when it was built without CONFIG_DEBUG_INFO_BTF */
  static ofKernel(names: readonly string[]): Btf {
    return new Btf(readFileSync(BTF_PATH), names);
  }

  /** Whether the running kernel has a type of this name; no privilege is needed. False when it was built without BTF. */
  static kernelHas(name: string): boolean {
    try {
      return readFileSync(BTF_PATH).includes(`\0${name}\0`);
    } catch {
      return false;
    }
  }

  /** Bytes from the start of `struct name` to a field; a path steps into structures: "nd_net.net". @throws Error */
  offsetOf(structure: string, path: string): number {
    let type = this.#find(STRUCT, structure);
    let bits = 0;
    for (const field of path.split(".")) {
      const member = this.#member(type, field);
      if (member === undefined) throw new Error(`struct ${structure} of this kernel has no field ${path}`);
      bits += member.bits;
      type = member.type;
    }
    return bits / 8;
  }

  /** The names of an enum's numbers. @throws Error when the kernel has no such enum */
  enumNames(name: string): Map<number, string> {
    const at = this.#find(ENUM, name);
    const names = new Map<number, string>();
    const count = this.#view.getUint32(at + 4, true) & 0xffff;
    for (let i = 0; i < count; i++) {
      const entry = at + 12 + i * 8;
      names.set(this.#view.getInt32(entry + 4, true), this.#text(this.#view.getUint32(entry, true)));
    }
    return names;
  }

  #find(kind: number, name: string): number {
    const at = this.#named.get(`${kind} ${name}`);
    if (at !== undefined) return at;
    throw new Error(`this kernel's BTF has no ${kind === ENUM ? "enum" : "struct"} ${name}`);
  }

  /** A field by its name, also inside anonymous structures and unions; its type is where the field's type stands. */
  #member(at: number, name: string): { readonly bits: number; readonly type: number } | undefined {
    const info = this.#view.getUint32(at + 4, true);
    const kind = this.#kindAt(at);
    if (kind !== STRUCT && kind !== UNION) return undefined;
    // With kind_flag set, the upper eight bits hold the width of a bit field.
    const mask = info >>> 31 === 1 ? 0xff_ffff : 0xffff_ffff;
    for (let i = 0; i < (info & 0xffff); i++) {
      const entry = at + 12 + i * 12;
      const memberName = this.#view.getUint32(entry, true);
      const bits = (this.#view.getUint32(entry + 8, true) & mask) >>> 0;
      const type = this.#resolve(this.#view.getUint32(entry + 4, true));
      if (memberName !== 0) {
        if (this.#text(memberName) === name) return { bits, type };
      } else {
        const inner = this.#member(type, name);
        if (inner !== undefined) return { bits: bits + inner.bits, type: inner.type };
      }
    }
    return undefined;
  }

  /** Where the type with this id stands, behind typedefs and qualifiers. */
  #resolve(id: number): number {
    let at = this.#offsets[id]!;
    while (at !== 0 && WRAPPERS.has(this.#kindAt(at)))
      at = this.#offsets[this.#view.getUint32(at + 8, true)]!;
    return at;
  }

  /** One tight loop: it runs before any compiler has seen it. */
  #walk(start: number, end: number, names: readonly string[]): Uint32Array {
    const view = this.#view;
    const wanted = new Map(names.map((name) => [this.#stringOffset(name), name]));
    const offsets = new Uint32Array((end - start) / 12 + 1);
    let id = 1;
    for (let at = start; at < end;) {
      const info = view.getUint32(at + 4, true);
      const kind = (info >>> 24) & 0x1f;
      if (kind >= FIXED_BYTES.length) throw new Error(`BTF kind ${kind} is newer than this program`);
      if (kind === STRUCT || kind === ENUM) {
        const name = wanted.get(view.getUint32(at, true));
        if (name !== undefined) this.#named.set(`${kind} ${name}`, at);
      }
      offsets[id++] = at;
      at += 12 + FIXED_BYTES[kind]! + MEMBER_BYTES[kind]! * (info & 0xffff);
    }
    return offsets;
  }

  /** Where a name stands among the strings; -1 when it is not there. */
  #stringOffset(name: string): number {
    const found = this.#bytes.indexOf(`\0${name}\0`, this.#strings);
    return found < 0 ? -1 : found + 1 - this.#strings;
  }

  #kindAt(at: number): number {
    return (this.#view.getUint32(at + 4, true) >>> 24) & 0x1f;
  }

  #text(offset: number): string {
    const start = this.#strings + offset;
    return this.#bytes.toString("utf8", start, this.#bytes.indexOf(0, start));
  }
}
