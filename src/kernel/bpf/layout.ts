/**
 * Where this kernel keeps the fields that our program reads, and what its drop reasons are called. Taken from BTF once
 * a boot: reading and walking its megabytes takes longer than a whole trace.
 */
import { readFileSync, statSync } from "node:fs";
import * as v from "valibot";
import { replaceFile } from "../durable-file.ts";
import { Btf } from "./btf.ts";

/** The enum of the kernel's drop reasons. */
export const REASONS = "skb_drop_reason";

/** Gone with the next boot. */
const CACHE = "/run/wayout-kernel.json";

const offsets = v.object({
  head: v.number(),
  networkHeader: v.number(),
  device: v.number(),
  ifindex: v.number(),
  net: v.number(),
  inum: v.number(),
});
const cached = v.object({ boot: v.string(), offsets, reasons: v.record(v.string(), v.string()) });

/** Bytes into struct sk_buff, net_device and net. */
export type Offsets = v.InferOutput<typeof offsets>;

export interface KernelLayout {
  readonly offsets: Offsets;
  /** enum skb_drop_reason. */
  readonly reasons: Readonly<Record<number, string>>;
}

/** @throws Error when the kernel has no BTF, or lacks a field or the reasons (before Linux 5.17) */
export function kernelLayout(): KernelLayout {
  const boot = bootOf();
  const known = readCache(boot);
  if (known !== undefined) return known;
  const layout = layoutOf(Btf.ofKernel([REASONS, "sk_buff", "net_device", "net"]));
  writeCache({ boot, ...layout });
  return layout;
}

export function layoutOf(btf: Btf): KernelLayout {
  return {
    offsets: {
      head: btf.offsetOf("sk_buff", "head"),
      networkHeader: btf.offsetOf("sk_buff", "network_header"),
      device: btf.offsetOf("sk_buff", "dev"),
      ifindex: btf.offsetOf("net_device", "ifindex"),
      net: btf.offsetOf("net_device", "nd_net.net"),
      inum: btf.offsetOf("net", "ns.inum"),
    },
    reasons: Object.fromEntries(btf.enumNames(REASONS)),
  };
}

/** The same for as long as this very kernel runs. */
function bootOf(): string {
  return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
}

/** Offsets from a file decide what is read of the kernel's memory: only root's own file counts. */
function readCache(boot: string): KernelLayout | undefined {
  try {
    const { uid, mode } = statSync(CACHE);
    if (uid !== 0 || (mode & 0o022) !== 0) return undefined;
    const parsed = v.safeParse(cached, JSON.parse(readFileSync(CACHE, "utf8")));
    return parsed.success && parsed.output.boot === boot ? parsed.output : undefined;
  } catch {
    return undefined;
  }
}

function writeCache(value: v.InferOutput<typeof cached>): void {
  try {
    replaceFile(CACHE, JSON.stringify(value));
  } catch {
    // A read-only /run: then it is read from BTF each time.
  }
}
