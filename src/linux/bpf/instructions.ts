/**
 * eBPF instructions (the kernel's Documentation/bpf/standardization/instruction-set.rst) from readable calls. Only
 * what our programs need; the verifier checks the rest.
 */

/** r0 result, r1–r5 arguments (lost in a call), r6–r9 kept, r10 the frame. */
export type Register = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10;
export const FRAME: Register = 10;

export type Width = 1 | 2 | 4 | 8;

/** Numbers of helper functions (enum bpf_func_id, include/uapi/linux/bpf.h). */
export const HELPERS = {
  map_update_elem: 2,
  ktime_get_ns: 5,
  get_current_pid_tgid: 14,
  get_current_comm: 16,
  get_current_task: 35,
  map_push_elem: 87,
  sysctl_get_name: 101,
  sysctl_get_new_value: 103,
  probe_read_kernel: 113,
} as const;

const SIZE_BITS: Readonly<Record<Width, number>> = { 4: 0x00, 2: 0x08, 1: 0x10, 8: 0x18 };
const BPF_LD_IMM64 = 0x18;
const BPF_LDX_MEM = 0x61;
const BPF_ST_MEM = 0x62;
const BPF_STX_MEM = 0x63;
const BPF_ALU64_ADD_K = 0x07;
const BPF_ALU64_ADD_X = 0x0f;
const BPF_ALU64_AND_K = 0x57;
const BPF_ALU64_MOV_K = 0xb7;
const BPF_ALU64_MOV_X = 0xbf;
const BPF_JA = 0x05;
const BPF_CALL = 0x85;
const BPF_EXIT = 0x95;
/** Compares the lower 32 bits. */
const BPF_JMP32_JEQ_K = 0x16;
const BPF_JMP32_JNE_K = 0x56;
const BPF_PSEUDO_MAP_FD = 1;

interface Instruction {
  readonly code: number;
  readonly to?: Register;
  readonly from?: number;
  readonly offset?: number;
  readonly immediate?: number;
  readonly target?: string;
}

/** A program under construction. Every method appends; jumps name labels. */
export class Assembler {
  readonly #instructions: Instruction[] = [];
  readonly #labels = new Map<string, number>();

  /** to = *(width *)(from + offset) */
  load(to: Register, from: Register, offset: number, width: Width): this {
    return this.#add({ code: BPF_LDX_MEM | SIZE_BITS[width], to, from, offset });
  }

  /** *(width *)(to + offset) = from */
  store(to: Register, offset: number, from: Register, width: Width): this {
    return this.#add({ code: BPF_STX_MEM | SIZE_BITS[width], to, from, offset });
  }

  /** *(width *)(to + offset) = value */
  storeValue(to: Register, offset: number, immediate: number, width: Width): this {
    return this.#add({ code: BPF_ST_MEM | SIZE_BITS[width], to, offset, immediate });
  }

  /** to = from + offset */
  pointer(to: Register, from: Register, offset = 0): this {
    this.#add({ code: BPF_ALU64_MOV_X, to, from });
    return offset === 0 ? this : this.#add({ code: BPF_ALU64_ADD_K, to, immediate: offset });
  }

  set(to: Register, immediate: number): this {
    return this.#add({ code: BPF_ALU64_MOV_K, to, immediate });
  }

  add(to: Register, from: Register): this {
    return this.#add({ code: BPF_ALU64_ADD_X, to, from });
  }

  and(to: Register, immediate: number): this {
    return this.#add({ code: BPF_ALU64_AND_K, to, immediate });
  }

  /** to = the map behind a file descriptor; two instructions long. */
  map(to: Register, fd: number): this {
    this.#add({ code: BPF_LD_IMM64, to, from: BPF_PSEUDO_MAP_FD, immediate: fd });
    return this.#add({ code: 0 });
  }

  call(helper: keyof typeof HELPERS): this {
    return this.#add({ code: BPF_CALL, immediate: HELPERS[helper] });
  }

  /** Jumps when the lower 32 bits of the register are `value`. */
  jumpIfEqual(register: Register, value: number, target: string): this {
    return this.#add({ code: BPF_JMP32_JEQ_K, to: register, immediate: value | 0, target });
  }

  jumpIfNotEqual(register: Register, value: number, target: string): this {
    return this.#add({ code: BPF_JMP32_JNE_K, to: register, immediate: value | 0, target });
  }

  jump(target: string): this {
    return this.#add({ code: BPF_JA, target });
  }

  label(name: string): this {
    this.#labels.set(name, this.#instructions.length);
    return this;
  }

  exit(): this {
    return this.#add({ code: BPF_EXIT });
  }

  /** Reads `bytes` of kernel memory at `register` + offset to the frame; what cannot be read becomes zero. */
  readKernel(frameOffset: number, bytes: number, register: Register, offset: number): this {
    return this.pointer(3, register, offset)
      .set(2, bytes)
      .pointer(1, FRAME, frameOffset)
      .call("probe_read_kernel");
  }

  /** The program as the kernel takes it: struct bpf_insn, eight bytes each. */
  assemble(): Uint8Array {
    const bytes = new Uint8Array(this.#instructions.length * 8);
    const view = new DataView(bytes.buffer);
    for (const [at, instruction] of this.#instructions.entries()) {
      const target = instruction.target === undefined ? undefined : this.#labels.get(instruction.target);
      if (instruction.target !== undefined && target === undefined) {
        throw new Error(`the label ${instruction.target} is nowhere`);
      }
      view.setUint8(at * 8, instruction.code);
      view.setUint8(at * 8 + 1, (instruction.to ?? 0) | ((instruction.from ?? 0) << 4));
      view.setInt16(at * 8 + 2, target === undefined ? (instruction.offset ?? 0) : target - at - 1, true);
      view.setInt32(at * 8 + 4, instruction.immediate ?? 0, true);
    }
    return bytes;
  }

  #add(instruction: Instruction): this {
    this.#instructions.push(instruction);
    return this;
  }
}
