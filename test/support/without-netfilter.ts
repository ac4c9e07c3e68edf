/**
 * Runs a command as on a kernel without netfilter's netlink: a seccomp filter (seccomp(2)) refuses NETLINK_NETFILTER
 * sockets as such a kernel does, with EPROTONOSUPPORT. `bun without-netfilter.ts COMMAND ARG…`
 */
import { dlopen, FFIType, ptr } from "bun:ffi";
import { execve } from "../../src/kernel/libc.ts";

const { prctl } = dlopen("libc.so.6", {
  prctl: {
    args: [FFIType.i32, FFIType.u64, FFIType.pointer, FFIType.u64, FFIType.u64],
    returns: FFIType.i32,
  },
}).symbols;

/** include/uapi/linux/filter.h, seccomp.h, prctl.h */
const [LOAD_WORD, JUMP_IF_EQUAL, RETURN] = [0x20, 0x15, 0x06];
const [ALLOW, ERRNO] = [0x7fff_0000, 0x0005_0000];
const [PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER] = [38, 22, 2];
/** Offsets in struct seccomp_data. */
const [NUMBER, FIRST_ARGUMENT, THIRD_ARGUMENT] = [0, 16, 32];
const SYS_SOCKET = process.arch === "arm64" ? 198 : 41;
const [AF_NETLINK, NETLINK_NETFILTER, EPROTONOSUPPORT] = [16, 12, 93];

const PROGRAM = [
  [LOAD_WORD, 0, 0, NUMBER],
  [JUMP_IF_EQUAL, 0, 5, SYS_SOCKET],
  [LOAD_WORD, 0, 0, FIRST_ARGUMENT],
  [JUMP_IF_EQUAL, 0, 3, AF_NETLINK],
  [LOAD_WORD, 0, 0, THIRD_ARGUMENT],
  [JUMP_IF_EQUAL, 0, 1, NETLINK_NETFILTER],
  [RETURN, 0, 0, ERRNO | EPROTONOSUPPORT],
  [RETURN, 0, 0, ALLOW],
] as const;

const filter = new DataView(new ArrayBuffer(PROGRAM.length * 8));
for (const [index, [code, yes, no, value]] of PROGRAM.entries()) {
  filter.setUint16(index * 8, code, true);
  filter.setUint8(index * 8 + 2, yes);
  filter.setUint8(index * 8 + 3, no);
  filter.setUint32(index * 8 + 4, value, true);
}
const program = new DataView(new ArrayBuffer(16));
program.setUint16(0, PROGRAM.length, true);
program.setBigUint64(8, BigInt(ptr(filter.buffer)), true);
if (prctl(PR_SET_NO_NEW_PRIVS, 1, null, 0, 0) !== 0) throw new Error("PR_SET_NO_NEW_PRIVS was refused");
if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ptr(program.buffer), 0, 0) !== 0) {
  throw new Error("PR_SET_SECCOMP was refused");
}
const [command, ...args] = process.argv.slice(2) as [string, ...string[]];
execve(command, [command, ...args], process.env);
