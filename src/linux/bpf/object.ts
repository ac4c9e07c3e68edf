/**
 * What clang makes of a BPF program: an ELF file (64 bits, little endian, ET_REL) with a section of instructions for each
 * program, map definitions (five 32-bit numbers each, section "maps"), constants (".rodata") and relocations. Only what
 * our programs use; everything else is refused, so that nothing is loaded half understood.
 */
import { decodeUtf8 } from "../../platform/bytes.ts";

/** enum bpf_map_type, and sizes in bytes. An entry count of 0 is chosen when the map is made. */
export interface MapDefinition {
  readonly name: string;
  readonly type: number;
  readonly keyBytes: number;
  readonly valueBytes: number;
  readonly entries: number;
  readonly flags: number;
}

/**
 * An instruction (its index) that loads the address of a map; of a constant, `offset` bytes into a section; or of a
 * function, by its first instruction.
 */
export type BpfRelocation =
  | { readonly instruction: number; readonly map: string }
  | { readonly instruction: number; readonly data: string; readonly offset: number }
  | { readonly instruction: number; readonly target: number };

export interface BpfProgram {
  /** The section's name. */
  readonly name: string;
  readonly instructions: Uint8Array;
  readonly relocations: readonly BpfRelocation[];
  /** The first instruction of each function: 0, and those that `bpf_loop` calls. */
  readonly functions: readonly number[];
}

export interface BpfObject {
  readonly license: string;
  readonly maps: readonly MapDefinition[];
  readonly programs: readonly BpfProgram[];
  /** Read-only data by section name. */
  readonly data: ReadonlyMap<string, Uint8Array>;
  /** Where in `.rodata` each constant stands that is filled in when a program is loaded. */
  readonly constants: ReadonlyMap<string, number>;
}

interface Section {
  readonly index: number;
  readonly name: string;
  readonly type: number;
  readonly flags: number;
  readonly bytes: Uint8Array;
  readonly link: number;
  readonly info: number;
}

/** As BpfRelocation, before it is known where functions come to stand. */
type Reference =
  | Exclude<BpfRelocation, { readonly target: number }>
  | { readonly instruction: number; readonly section: number };

interface Symbol {
  readonly name: string;
  readonly section: number;
  readonly value: number;
  readonly isSection: boolean;
}

const EM_BPF = 247;
const SHT = { progbits: 1, symtab: 2, rela: 4, rel: 9 } as const;
const SHF_EXECINSTR = 4;
const STT_SECTION = 3;
const R_BPF_64_64 = 1;
const LD_IMM64 = 0x18;
const MAP_DEFINITION_BYTES = 20;
/** How the sections of functions are called that `bpf_loop` calls: one each. */
const FUNCTIONS = ".step.";

/** @throws Error when the bytes are no such file */
export function parseBpfObject(bytes: Uint8Array): BpfObject {
  // A Buffer's slices would share its memory, and begin somewhere in it.
  const sections = sectionsOf(new Uint8Array(bytes));
  const symbols = symbolsOf(sections);
  const maps = mapsOf(sections, symbols);
  const data = new Map(
    sections.filter(({ name }) => name.startsWith(".rodata")).map(({ name, bytes }) => [name, bytes]),
  );
  const constants = new Map(
    symbols
      .filter(({ section, isSection }) => !isSection && sections[section]?.name === ".rodata")
      .map(({ name, value }) => [name, value]),
  );
  const code = sections.filter(
    ({ type, flags, bytes }) => type === SHT.progbits && (flags & SHF_EXECINSTR) !== 0 && bytes.length > 0,
  );
  const functions = code.filter(({ name }) => name.startsWith(FUNCTIONS));
  const programs = code
    .filter((section) => !functions.includes(section))
    .map((section) => withFunctions(section, functions, (of) => relocationsOf(of, sections, symbols, maps)));
  const license = sections.find(({ name }) => name === "license");
  if (license === undefined) throw new Error("the BPF object has no license");
  return { license: untilNul(license.bytes, 0), maps, programs, data, constants };
}

/** The program with the functions that it refers to behind it; what nobody calls, the verifier does not accept. */
function withFunctions(
  program: Section,
  functions: readonly Section[],
  relocationsIn: (section: Section) => Reference[],
): BpfProgram {
  const parts = [program];
  const starts = new Map<number, number>();
  const relocations: BpfRelocation[] = [];
  let length = 0;
  for (const part of parts) {
    starts.set(part.index, length / 8);
    length += part.bytes.length;
    for (const one of relocationsIn(part)) {
      const called = functions.find(({ index }) => "section" in one && index === one.section);
      if (called !== undefined && !parts.includes(called)) parts.push(called);
    }
  }
  for (const part of parts) {
    const start = starts.get(part.index)!;
    for (const one of relocationsIn(part)) {
      const instruction = one.instruction + start;
      relocations.push(
        "section" in one ? { instruction, target: starts.get(one.section)! } : { ...one, instruction },
      );
    }
  }
  const instructions = new Uint8Array(length);
  for (const part of parts) instructions.set(part.bytes, starts.get(part.index)! * 8);
  return { name: program.name, instructions, relocations, functions: [...starts.values()] };
}

function sectionsOf(bytes: Uint8Array): Section[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  // Elf64_Ehdr: magic, class 2 (64 bits), data 1 (little endian), e_machine at 18, e_shoff at 40.
  if (view.getUint32(0, false) !== 0x7f_45_4c_46 || view.getUint16(4, false) !== 0x0201)
    throw new Error("this is no ELF file of 64 bits, little endian");
  if (view.getUint16(18, true) !== EM_BPF) throw new Error("this ELF file is not for BPF");
  const table = Number(view.getBigUint64(40, true));
  const entryBytes = view.getUint16(58, true);
  const names = view.getUint16(62, true);
  const raw = Array.from({ length: view.getUint16(60, true) }, (_, index) => {
    const at = table + index * entryBytes;
    const offset = Number(view.getBigUint64(at + 24, true));
    const size = Number(view.getBigUint64(at + 32, true));
    return {
      index,
      name: view.getUint32(at, true),
      type: view.getUint32(at + 4, true),
      flags: Number(view.getBigUint64(at + 8, true)),
      bytes: bytes.slice(offset, offset + size),
      link: view.getUint32(at + 40, true),
      info: view.getUint32(at + 44, true),
    };
  });
  return raw.map((section) => ({ ...section, name: untilNul(raw[names]!.bytes, section.name) }));
}

function symbolsOf(sections: readonly Section[]): Symbol[] {
  const table = sections.find(({ type }) => type === SHT.symtab);
  if (table === undefined) return [];
  const view = new DataView(table.bytes.buffer);
  const names = sections[table.link]!.bytes;
  // Elf64_Sym: name, info, other, shndx, value, size; 24 bytes.
  return Array.from({ length: table.bytes.length / 24 }, (_, index) => {
    const at = index * 24;
    return {
      name: untilNul(names, view.getUint32(at, true)),
      isSection: (view.getUint8(at + 4) & 15) === STT_SECTION,
      section: view.getUint16(at + 6, true),
      value: Number(view.getBigUint64(at + 8, true)),
    };
  });
}

function mapsOf(sections: readonly Section[], symbols: readonly Symbol[]): MapDefinition[] {
  const section = sections.find(({ name }) => name === "maps");
  if (section === undefined) return [];
  const view = new DataView(section.bytes.buffer);
  return symbols
    .filter((symbol) => symbol.section === section.index && !symbol.isSection)
    .toSorted((a, b) => a.value - b.value)
    .map(({ name, value }) => {
      if (value + MAP_DEFINITION_BYTES > section.bytes.length) throw new Error(`the map ${name} is cut off`);
      const number = (at: number): number => view.getUint32(value + at * 4, true);
      return {
        name,
        type: number(0),
        keyBytes: number(1),
        valueBytes: number(2),
        entries: number(3),
        flags: number(4),
      };
    });
}

function relocationsOf(
  program: Section,
  sections: readonly Section[],
  symbols: readonly Symbol[],
  maps: readonly MapDefinition[],
): Reference[] {
  const instructions = new DataView(program.bytes.buffer);
  return sections
    .filter(({ type, info }) => (type === SHT.rel || type === SHT.rela) && info === program.index)
    .flatMap((section) => {
      if (section.type === SHT.rela)
        throw new Error(`relocations of ${program.name} have an addend of their own`);
      const view = new DataView(section.bytes.buffer);
      // Elf64_Rel: offset, then type and symbol; 16 bytes.
      return Array.from({ length: section.bytes.length / 16 }, (_, index): Reference => {
        const offset = Number(view.getBigUint64(index * 16, true));
        const type = view.getUint32(index * 16 + 8, true);
        const symbol = symbols[view.getUint32(index * 16 + 12, true)]!;
        if (type !== R_BPF_64_64 || instructions.getUint8(offset) !== LD_IMM64)
          throw new Error(`a relocation of ${program.name} is of a kind that is not known: ${type}`);
        const instruction = offset / 8;
        const target = sections[symbol.section]!;
        if (target.name === "maps" && maps.some(({ name }) => name === symbol.name))
          return { instruction, map: symbol.name };
        if (target.name.startsWith(FUNCTIONS)) return { instruction, section: target.index };
        if (!target.name.startsWith(".rodata"))
          throw new Error(`${program.name} refers to ${symbol.name} in ${target.name}, which is not known`);
        // The addend stands in the instruction, as the kernel would want the offset.
        const addend = instructions.getUint32(offset + 4, true);
        return { instruction, data: target.name, offset: symbol.value + addend };
      });
    });
}

function untilNul(bytes: Uint8Array, start: number): string {
  const end = bytes.indexOf(0, start);
  return decodeUtf8(bytes.subarray(start, end < 0 ? bytes.length : end));
}
