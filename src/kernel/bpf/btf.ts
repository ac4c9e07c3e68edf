/**
 * The kernel's own description of its types, BTF (Documentation/bpf/btf.rst): where a field of a structure stands,
 * what the numbers of an enum are called. Several megabytes: only what is asked for is decoded.
 */
import { readFileSync } from "node:fs";

const BTF_PATH = "/sys/kernel/btf/vmlinux";
const BTF_MAGIC = 0xeb9f;

/** BTF_KIND_*: how many bytes follow struct btf_type (12 bytes) for each kind, given its vlen. */
const TRAILER: readonly ((vlen: number) => number)[] = [
  () => 0, // 0 void
  () => 4, // 1 INT
  () => 0, // 2 PTR
  () => 12, // 3 ARRAY
  (vlen) => vlen * 12, // 4 STRUCT
  (vlen) => vlen * 12, // 5 UNION
  (vlen) => vlen * 8, // 6 ENUM
  () => 0, // 7 FWD
  () => 0, // 8 TYPEDEF
  () => 0, // 9 VOLATILE
  () => 0, // 10 CONST
  () => 0, // 11 RESTRICT
  () => 0, // 12 FUNC
  (vlen) => vlen * 8, // 13 FUNC_PROTO
  () => 4, // 14 VAR
  (vlen) => vlen * 12, // 15 DATASEC
  () => 0, // 16 FLOAT
  () => 4, // 17 DECL_TAG
  () => 0, // 18 TYPE_TAG
  (vlen) => vlen * 12, // 19 ENUM64
];
const STRUCT = 4;
const UNION = 5;
const ENUM = 6;
/** Kinds that only wrap another type: TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG. */
const WRAPPERS = new Set([8, 9, 10, 11, 18]);

export class Btf {
  readonly #view: DataView;
  readonly #bytes: Buffer;
  readonly #types: number;
  readonly #typesEnd: number;
  readonly #strings: number;
  /** Where each type stands, by its id; filled as far as it was needed. */
  #offsets: Uint32Array | undefined;

  /** @throws Error when the bytes are no BTF */
  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    // struct btf_header: magic, version, flags, hdr_len, type_off, type_len, str_off, str_len.
    if (bytes.length < 24 || this.#view.getUint16(0, true) !== BTF_MAGIC) throw new Error("this is no BTF");
    const header = this.#view.getUint32(4, true);
    this.#types = header + this.#view.getUint32(8, true);
    this.#typesEnd = this.#types + this.#view.getUint32(12, true);
    this.#strings = header + this.#view.getUint32(16, true);
    if (this.#strings + this.#view.getUint32(20, true) > bytes.length) throw new Error("this BTF is cut off");
  }

  /** The running kernel's. @throws ENOENT when it was built without CONFIG_DEBUG_INFO_BTF */
  static ofKernel(): Btf {
    return new Btf(readFileSync(BTF_PATH));
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

  /** Position of the first type of that kind and name. The name is looked for among the strings first: comparing
   * offsets is all that is left to do for a hundred thousand types. */
  #find(kind: number, name: string): number {
    const needle = Buffer.from(`\0${name}\0`);
    const found = this.#bytes.indexOf(needle, this.#strings);
    const wanted = found + 1 - this.#strings;
    for (let at = found < 0 ? this.#typesEnd : this.#types; at < this.#typesEnd; at += this.#sizeAt(at)) {
      if (this.#view.getUint32(at, true) === wanted && this.#kindAt(at) === kind) return at;
    }
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
    this.#offsets ??= this.#indexTypes();
    let at = this.#offsets[id]!;
    while (at !== 0 && WRAPPERS.has(this.#kindAt(at)))
      at = this.#offsets[this.#view.getUint32(at + 8, true)]!;
    return at;
  }

  #indexTypes(): Uint32Array {
    const offsets = new Uint32Array((this.#typesEnd - this.#types) / 12 + 1);
    let id = 1;
    for (let at = this.#types; at < this.#typesEnd; at += this.#sizeAt(at)) offsets[id++] = at;
    return offsets;
  }

  #kindAt(at: number): number {
    return (this.#view.getUint32(at + 4, true) >>> 24) & 0x1f;
  }

  #sizeAt(at: number): number {
    const trailer = TRAILER[this.#kindAt(at)];
    if (trailer === undefined) throw new Error(`BTF kind ${this.#kindAt(at)} is newer than this program`);
    return 12 + trailer(this.#view.getUint32(at + 4, true) & 0xffff);
  }

  #text(offset: number): string {
    const start = this.#strings + offset;
    return this.#bytes.toString("utf8", start, this.#bytes.indexOf(0, start));
  }
}
