/** What the programs need of a machine, asked for before anything is made. */
import { closeFile } from "../../../kernel/file.ts";
import { loadProgram } from "../../../kernel/bpf/calls.ts";
import { Assembler } from "../../../linux/bpf/instructions.ts";
import type { NetworkNamespace } from "../../../kernel/namespace.ts";
import { neededDirectory } from "./bpf-directory.ts";
import { explained } from "./refusal.ts";

/** @throws WayoutError `no-privilege`, `no-ebpf` */
export function requireEbpf(namespace: NetworkNamespace, doing: string): void {
  explained(doing, () => {
    // Who may load one that does nothing may load ours.
    closeFile(loadProgram("wayout_may", new Assembler().set(0, 0).exit().assemble(), "trafficControl"));
    neededDirectory(namespace, doing);
  });
}
