/** Programs of others, for tests: loaded and attached as an agent of a cluster would. */
import { closeSync } from "node:fs";
import { attributes, bpf } from "../../src/kernel/bpf/calls.ts";
import { Assembler } from "../../src/linux/bpf/instructions.ts";
import * as libc from "../../src/kernel/libc.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";

const BPF_PROG_LOAD = 5;
const BPF_LINK_CREATE = 28;
const BPF_PROG_TYPE_SCHED_CLS = 3;
const BPF_PROG_TYPE_XDP = 6;
const TCX = { "tcx ingress": 46, "tcx egress": 47 } as const;
const BPF_XDP = 37;
/** TCX_NEXT, as if the program were not there, and XDP_PASS. */
const PASS = { tcx: -1, xdp: 2 } as const;
const TCX_DROP = 2;
/** struct __sk_buff */
const PROTOCOL_AT = 16;
/** ETH_P_IP in network order, as a little-endian number. */
const IPV4 = 0x0008;

/** Attaches a program that lets everything pass, or of tcx all but IPv4; it stays until the returned handle is closed. */
export function attachProgram(
  namespace: NetworkNamespace,
  link: number,
  hook: keyof typeof TCX | "xdp",
  name: string,
  does: "pass" | "drop-ipv4" = "pass",
): Disposable {
  const xdp = hook === "xdp";
  const code = new Assembler();
  if (does === "drop-ipv4") {
    code.load(2, 1, PROTOCOL_AT, 4).jumpIfNotEqual(2, IPV4, "pass").set(0, TCX_DROP).exit().label("pass");
  }
  code.set(0, xdp ? PASS.xdp : PASS.tcx).exit();
  const program = load(name, xdp ? BPF_PROG_TYPE_XDP : BPF_PROG_TYPE_SCHED_CLS, code.assemble());
  const { bytes, view } = attributes();
  view.setUint32(0, program, true);
  view.setUint32(4, link, true);
  view.setUint32(8, xdp ? BPF_XDP : TCX[hook], true);
  const attached = namespace.run(() => bpf(BPF_LINK_CREATE, bytes));
  closeSync(program);
  return { [Symbol.dispose]: () => closeSync(attached) };
}

function load(name: string, type: number, code: Uint8Array): number {
  const license = Buffer.from("GPL\0");
  const { bytes, view } = attributes();
  view.setUint32(0, type, true);
  view.setUint32(4, code.length / 8, true);
  view.setBigUint64(8, libc.pointerTo(code), true);
  view.setBigUint64(16, libc.pointerTo(license), true);
  bytes.set(Buffer.from(name).subarray(0, 15), 48);
  if (type === BPF_PROG_TYPE_XDP) view.setUint32(68, BPF_XDP, true);
  return bpf(BPF_PROG_LOAD, bytes);
}
