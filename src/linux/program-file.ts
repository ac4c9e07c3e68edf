/** What a file's beginning and its length tell of whether the kernel could execute it (elf(5), execve(2)). Pure. */

/** Of a program for another kind of processor, of one whose end is missing, of what is no program. */
export type ProgramFault = "another-machine" | "damaged";

/** Kinds of processors by whose names JavaScript knows them: what each executes, e_machine. */
const MACHINES: Readonly<Record<string, readonly number[]>> = { x64: [62, 3], arm64: [183, 40] };
const MACHINE_NAMES: Readonly<Record<number, string>> = {
  3: "x86",
  8: "MIPS",
  20: "PowerPC",
  21: "64-bit PowerPC",
  22: "S390",
  40: "32-bit ARM",
  62: "x86-64",
  183: "arm64",
  243: "RISC-V",
  258: "LoongArch",
};
/** Of a file's beginning: the headers of any program lie in it. */
export const PROGRAM_HEAD_BYTES = 4096;

/**
 * @param head the file's first PROGRAM_HEAD_BYTES, fewer where it has fewer
 * @param bytes the file's length
 * @param arch of this machine, as process.arch has it; one that is not known is not compared
 * @returns undefined where nothing speaks against it
 */
export function programFault(
  head: Uint8Array,
  bytes: number,
  arch: string,
): { readonly fault: ProgramFault; readonly said: string } | undefined {
  const damaged = (said: string) => ({ fault: "damaged", said }) as const;
  if (bytes === 0) return damaged("it is empty");
  if (head[0] === 0x23 && head[1] === 0x21) return undefined;
  if (head[0] !== 0x7f || head[1] !== 0x45 || head[2] !== 0x4c || head[3] !== 0x46)
    return damaged("it is neither a program (ELF) nor a script (#!)");
  if (head.length < 52) return damaged(`it ends after ${bytes} bytes, within its header`);
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  const little = head[5] === 1;
  const machine = view.getUint16(18, little);
  const known = MACHINES[arch];
  if (known !== undefined && (!little || !known.includes(machine))) {
    const named = MACHINE_NAMES[machine] ?? `processors of number ${machine}`;
    return { fault: "another-machine", said: `it is a program for ${named}, and this machine is ${arch}` };
  }
  const needed = neededBytes(view, little);
  return needed > bytes ? damaged(`it has ${bytes} bytes, and its header tells of ${needed}`) : undefined;
}

/** How long the file is at least, by its segments and by its table of sections. */
function neededBytes(view: DataView, little: boolean): number {
  const isWide = view.getUint8(4) === 2;
  if (isWide && view.byteLength < 64) return Infinity;
  const word = (at: number): number =>
    isWide ? Number(view.getBigUint64(at, little)) : view.getUint32(at, little);
  const half = (at: number): number => view.getUint16(at, little);
  const segments = word(isWide ? 32 : 28);
  const sections = word(isWide ? 40 : 32);
  const counts = isWide ? 54 : 42;
  let needed = sections + half(counts + 4) * half(counts + 6);
  for (let number = 0; number < half(counts + 2); number++) {
    const at = segments + number * half(counts);
    if (at + half(counts) > view.byteLength) break;
    needed = Math.max(needed, word(at + (isWide ? 8 : 4)) + word(at + (isWide ? 32 : 16)));
  }
  return needed;
}
