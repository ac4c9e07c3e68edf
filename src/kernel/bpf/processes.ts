/**
 * Who changes the node, learnt beforehand: a process that changes the rules has often ended before one can ask for its
 * parents. Two small programs: one notes each process that starts a program, with its parents (raw tracepoint
 * sched_process_exec); one notes who writes a setting of the network (cgroup/sysctl). Root of the machine only.
 */
import { closeSync } from "node:fs";
import { Assembler, FRAME } from "../../linux/bpf/instructions.ts";
import { mountPointOf } from "../mounts.ts";
import { Btf } from "./btf.ts";
import { attachRawTracepoint, attachToSysctls, BpfQueue, BpfRecentMap } from "./loader.ts";

export interface KnownProcess {
  readonly pid: number;
  /** Its own name, 15 bytes at most (TASK_COMM_LEN). */
  readonly name: string;
}

/** A process as it was when it started its program. */
export interface StartedProcess extends KnownProcess {
  /** The nearest first. */
  readonly parents: readonly KnownProcess[];
}

export interface SettingWrite extends KnownProcess {
  /** Milliseconds of the clock that nobody sets (monotonicMs). */
  readonly at: number;
  /** `net.ipv4.ip_forward` */
  readonly setting: string;
  readonly value: string;
  /** Inode number of the writer's network namespace. */
  readonly namespaceInode: number;
}

const COMM_BYTES = 16;
/** A process, and so many above it. */
const GENERATIONS = 5;
const PERSON_BYTES = 4 + COMM_BYTES;
const STARTED_BYTES = GENERATIONS * PERSON_BYTES + 4;
const MOST_PROCESSES = 4096;

/** Where the fields of a write stand, in bytes. */
const WRITE = { time: 0, thread: 8, process: 12, namespace: 16, comm: 24, value: 40, name: 56 } as const;
const VALUE_BYTES = 16;
const NAME_BYTES = 64;
const WRITE_BYTES = WRITE.name + NAME_BYTES;
const MOST_WRITES = 256;
/** map_push_elem: the oldest makes room. */
const BPF_EXIST = 2;

interface TaskOffsets {
  readonly tgid: number;
  readonly comm: number;
  readonly parent: number;
  readonly nsproxy: number;
  readonly net: number;
  readonly inum: number;
}

/** Notes from `open` to `close`. */
export class ProcessWatch implements Disposable {
  private constructor(
    private readonly started: BpfRecentMap,
    private readonly writes: BpfQueue | undefined,
    private readonly links: readonly number[],
    /** Why writes of settings are not seen; undefined when they are. */
    readonly blindToSettings: string | undefined,
  ) {}

  /** @throws SystemError EPERM when this user may not load BPF; Error on a kernel without BTF; VerifierError */
  static open(): ProcessWatch {
    // First what a user without the right is refused: reading the kernel's types takes longer.
    const started = BpfRecentMap.create("wayout_started", STARTED_BYTES, MOST_PROCESSES);
    try {
      const offsets = taskOffsets();
      const link = attachRawTracepoint(
        "sched_process_exec",
        "wayout_started",
        startProgram(offsets, started.fd),
      );
      const settings = watchSettings(offsets);
      if ("why" in settings) return new ProcessWatch(started, undefined, [link], settings.why);
      return new ProcessWatch(started, settings.writes, [link, settings.link], undefined);
    } catch (error) {
      started[Symbol.dispose]();
      throw error;
    }
  }

  /** Undefined when it started no program since this watch began, or so many did since that it was forgotten. */
  process(pid: number): StartedProcess | undefined {
    const bytes = this.started.get(pid);
    if (bytes === undefined) return undefined;
    const view = new DataView(bytes.buffer);
    const people = Array.from({ length: GENERATIONS }, (_, index): KnownProcess => {
      const at = index * PERSON_BYTES;
      return { pid: view.getUint32(at, true), name: textIn(bytes, at + 4, COMM_BYTES) };
    });
    const [own, ...parents] = people;
    const end = parents.findIndex((one, index) => one.pid === 0 || one.pid === people[index]!.pid);
    return { ...own!, parents: end < 0 ? parents : parents.slice(0, end) };
  }

  /** The writes noted since the last call, in order. */
  settingWrites(): SettingWrite[] {
    const writes: SettingWrite[] = [];
    const { writes: queue } = this;
    if (queue === undefined) return [];
    for (let one = queue.pop(); one !== undefined; one = queue.pop()) writes.push(this.#decode(one));
    return writes;
  }

  close(): void {
    for (const link of this.links) closeSync(link);
    this.started[Symbol.dispose]();
    this.writes?.[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #decode(bytes: Uint8Array): SettingWrite {
    const view = new DataView(bytes.buffer);
    return {
      at: Number(view.getBigUint64(WRITE.time, true)) / 1e6,
      pid: view.getUint32(WRITE.process, true),
      name: textIn(bytes, WRITE.comm, COMM_BYTES),
      setting: textIn(bytes, WRITE.name, NAME_BYTES).replaceAll("/", "."),
      value: textIn(bytes, WRITE.value, VALUE_BYTES).trim(),
      namespaceInode: view.getUint32(WRITE.namespace, true),
    };
  }
}

function watchSettings(
  offsets: TaskOffsets,
): { readonly writes: BpfQueue; readonly link: number } | { readonly why: string } {
  const directory = mountPointOf("cgroup2");
  if (directory === undefined) return { why: "no cgroup of version 2 is mounted here" };
  const writes = BpfQueue.create("wayout_settings", WRITE_BYTES, MOST_WRITES);
  try {
    return {
      writes,
      link: attachToSysctls(directory, "wayout_settings", settingProgram(offsets, writes.fd)),
    };
  } catch (error) {
    writes[Symbol.dispose]();
    return { why: error instanceof Error ? error.message : String(error) };
  }
}

function taskOffsets(): TaskOffsets {
  const btf = Btf.ofKernel(["task_struct", "nsproxy", "net"]);
  return {
    tgid: btf.offsetOf("task_struct", "tgid"),
    comm: btf.offsetOf("task_struct", "comm"),
    parent: btf.offsetOf("task_struct", "real_parent"),
    nsproxy: btf.offsetOf("task_struct", "nsproxy"),
    net: btf.offsetOf("nsproxy", "net_ns"),
    inum: btf.offsetOf("net", "ns.inum"),
  };
}

/** void on_exec(struct task_struct *task, pid_t old, struct linux_binprm *program): notes the task and those above it. */
function startProgram(offsets: TaskOffsets, map: number): Uint8Array {
  const value = -STARTED_BYTES;
  const key = value - 8;
  const scratch = key - 8;
  const program = new Assembler().load(7, 1, 0, 8);
  for (let generation = 0; generation < GENERATIONS; generation++) {
    const at = value + generation * PERSON_BYTES;
    program.readKernel(at, 4, 7, offsets.tgid).readKernel(at + 4, COMM_BYTES, 7, offsets.comm);
    program.readKernel(scratch, 8, 7, offsets.parent).load(7, FRAME, scratch, 8);
  }
  program.storeValue(FRAME, value + GENERATIONS * PERSON_BYTES, 0, 4);
  program.load(1, FRAME, value, 4).store(FRAME, key, 1, 4);
  program.map(1, map).pointer(2, FRAME, key).pointer(3, FRAME, value).set(4, 0).call("map_update_elem");
  return program.set(0, 0).exit().assemble();
}

/** int on_sysctl(struct bpf_sysctl *context): notes writes below net/, and allows everything. */
function settingProgram(offsets: TaskOffsets, queue: number): Uint8Array {
  const write = -WRITE_BYTES;
  const scratch = write - 8;
  const program = new Assembler().pointer(6, 1);
  // context->write
  program.load(1, 6, 0, 4).jumpIfEqual(1, 0, "end");
  for (let at = 0; at < WRITE_BYTES; at += 8) program.storeValue(FRAME, write + at, 0, 8);
  program
    .pointer(1, 6)
    .pointer(2, FRAME, write + WRITE.name)
    .set(3, NAME_BYTES)
    .set(4, 0)
    .call("sysctl_get_name");
  program.load(1, FRAME, write + WRITE.name, 4).jumpIfNotEqual(1, wordOf("net/"), "end");
  program
    .pointer(1, 6)
    .pointer(2, FRAME, write + WRITE.value)
    .set(3, VALUE_BYTES)
    .call("sysctl_get_new_value");
  program.call("ktime_get_ns").store(FRAME, write + WRITE.time, 0, 8);
  program.call("get_current_pid_tgid").store(FRAME, write + WRITE.thread, 0, 8);
  program
    .pointer(1, FRAME, write + WRITE.comm)
    .set(2, COMM_BYTES)
    .call("get_current_comm");
  program.call("get_current_task").pointer(7, 0);
  program.readKernel(scratch, 8, 7, offsets.nsproxy).load(7, FRAME, scratch, 8);
  program.readKernel(scratch, 8, 7, offsets.net).load(7, FRAME, scratch, 8);
  program.readKernel(write + WRITE.namespace, 4, 7, offsets.inum);
  program.map(1, queue).pointer(2, FRAME, write).set(3, BPF_EXIST).call("map_push_elem");
  return program.label("end").set(0, 1).exit().assemble();
}

/** Four letters as the number that a load of them gives. */
function wordOf(text: string): number {
  return Buffer.from(text).readInt32LE();
}

function textIn(bytes: Uint8Array, at: number, length: number): string {
  return Buffer.from(bytes.subarray(at, at + length))
    .toString()
    .replace(/\0.*$/s, "");
}
