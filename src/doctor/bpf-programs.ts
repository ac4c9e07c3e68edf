/** BPF programs by name: whose they are, and which of them translate. The kernel keeps 15 letters of a name. */
import type { ProgramState } from "../snapshot/snapshot.ts";

const PRODUCTS: readonly (readonly [RegExp, string])[] = [
  [/^cil_/, "Cilium"],
  [/^cali_/, "Calico"],
  [/^wayout_/, "wayout"],
];

/** Cilium masquerades where packets leave the devices it was told of (bpf.masquerade, devices). */
const TRANSLATES = /^cil_to_netdev/;

export function productOfProgram(name: string): string | undefined {
  return PRODUCTS.find(([pattern]) => pattern.test(name))?.[1];
}

/** `program cil_to_netdev (Cilium) at tcx egress of eth0`. */
export function programText({ name, kind, id, hook, link }: ProgramState): string {
  const called = name ?? kind ?? (id === undefined ? "without a name" : `number ${id}`);
  const product = name === undefined ? undefined : productOfProgram(name);
  return `program ${called}${product === undefined ? "" : ` (${product})`} at ${hook} of ${link}`;
}

/** Programs known to translate sources, on whichever link. */
export function translatingPrograms(programs: readonly ProgramState[]): ProgramState[] {
  return programs.filter(({ name, hook }) => hook.endsWith("egress") && TRANSLATES.test(name ?? ""));
}
