/** bpf(2) itself, over the platform: attributes, programs, and what the verifier says of them. */
import { SystemError } from "../../linux/errno.ts";
import { decodeUtf8, encodeUtf8 } from "../../platform/bytes.ts";
import { platform } from "#platform";
import { checked, close, text } from "../calls.ts";

/** enum bpf_cmd */
export const BPF_MAP_CREATE = 0;
export const BPF_MAP_LOOKUP_ELEM = 1;
const BPF_PROG_LOAD = 5;
const BPF_BTF_LOAD = 18;
export const BPF_LINK_CREATE = 28;

/** enum bpf_prog_type */
const PROGRAM_TYPES = { trafficControl: 3, rawTracepoint: 17, cgroupSysctl: 23 } as const;

/** include/uapi/linux/btf.h */
export const BTF_MAGIC = 0xeb9f;

/** Some helpers (probe_read_kernel) are only for programs that say so. */
const LICENSE = "GPL";
const LOG_BYTES = 1024 * 1024;

/** union bpf_attr, zeroed; larger than any command that is used here. */
export function attributes(): { readonly bytes: Uint8Array; readonly view: DataView } {
  const bytes = new Uint8Array(new ArrayBuffer(128));
  return { bytes, view: new DataView(bytes.buffer) };
}

/** The address of a buffer, for structures that hold pointers. The buffer must stay referenced while it is used. */
export function pointerTo(buffer: Uint8Array): bigint {
  return BigInt(platform.addressOf(buffer));
}

export function bpf(command: number, attributes: Uint8Array): number {
  const number = platform.arch === "arm64" ? 280 : 321;
  const { length } = attributes;
  return checked(
    "bpf",
    Number(platform.libc.syscall(number, command, platform.addressOf(attributes), length, 0, 0, 0)),
  );
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

/** Loads a program and returns its descriptor. @throws SystemError EPERM; VerifierError */
export function loadProgram(
  name: string,
  program: Uint8Array,
  type: keyof typeof PROGRAM_TYPES,
  options: { readonly license?: string; readonly functions?: readonly number[] } = {},
  call: typeof bpf = bpf,
): number {
  const license = text(options.license ?? LICENSE);
  const functions = options.functions ?? [];
  // Only functions that are called back must be described to the kernel.
  const types = functions.length > 1 ? loadTypes() : undefined;
  const records = new Uint32Array(functions.flatMap((start) => [start, types?.function ?? 0]));
  const { bytes, view } = attributes();
  view.setUint32(0, PROGRAM_TYPES[type], true);
  view.setUint32(4, program.length / 8, true);
  view.setBigUint64(8, pointerTo(program), true);
  view.setBigUint64(16, pointerTo(license), true);
  bytes.set(objectName(name), 48);
  if (types !== undefined) {
    view.setUint32(72, types.fd, true);
    view.setUint32(76, 8, true);
    view.setBigUint64(80, pointerTo(new Uint8Array(records.buffer)), true);
    view.setUint32(88, functions.length, true);
  }
  try {
    return call(BPF_PROG_LOAD, bytes);
  } catch (error) {
    if (!(error instanceof SystemError) || error.code === "EPERM") throw error;
    // Once more, for the verifier's explanation; a log costs time, so a good program is loaded without.
    const log = new Uint8Array(LOG_BYTES);
    view.setUint32(24, 1, true);
    view.setUint32(28, LOG_BYTES, true);
    view.setBigUint64(32, pointerTo(log), true);
    try {
      return bpf(BPF_PROG_LOAD, bytes);
    } catch (again) {
      if (!(again instanceof SystemError)) throw again;
      throw new VerifierError(name, decodeUtf8(log.subarray(0, log.indexOf(0))), error);
    }
  } finally {
    if (types !== undefined) close(types.fd);
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
  const description = new Uint8Array(new ArrayBuffer(words.byteLength + types.length * 4 + strings.length));
  description.set(new Uint8Array(words.buffer), 0);
  description.set(new Uint8Array(new Uint32Array(types).buffer), words.byteLength);
  description.set(encodeUtf8(strings), words.byteLength + types.length * 4);
  const { bytes, view } = attributes();
  view.setBigUint64(0, pointerTo(description), true);
  view.setUint32(16, description.length, true);
  return { fd: bpf(BPF_BTF_LOAD, bytes), function: 3 };
}

/** BPF_OBJ_NAME_LEN: 15 bytes and a NUL; letters, digits, `_` and `.`. */
export function objectName(name: string): Uint8Array {
  return encodeUtf8(name).subarray(0, 15);
}
