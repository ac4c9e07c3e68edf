/**
 * Who changed what, of late: links, addresses, routes and settings, by the object that the journal and the repairs name. "Of
 * late" is by a clock that nobody sets: the time of day may jump.
 */
import { monotonicMs } from "../kernel/calls.ts";
import type { SettingWrite } from "../kernel/bpf/processes.ts";
import { culpritOf, culpritOfSocket, type Witnesses } from "./culprit.ts";
import type { Culprit } from "./journal/journal.ts";
import type { HeardChange } from "./node-events.ts";

/** A repair follows its cause at once: who changed it longer ago than this did not cause it. */
export const CAUSE_MS = 2_000;
/** A write of a setting is heard of at once, or compared 2 s later. */
const WRITE_MS = 5_000;
const MOST_WRITES = 64;
/** One switch, two names. */
const SAME_SETTING: Readonly<Record<string, string>> = {
  "net.ipv4.conf.all.forwarding": "net.ipv4.ip_forward",
};

export class RecentChanges {
  readonly #by = new Map<string, { readonly at: number; readonly by: Culprit }>();
  #writes: SettingWrite[] = [];

  /**
   * @param inode of the node's namespace: others write settings of the same names in theirs
   * @param own the agent's own process
   */
  constructor(
    private readonly witnesses: Witnesses,
    private readonly inode: number,
    private readonly own: number,
    private readonly now: () => number = monotonicMs,
  ) {}

  /** A port of a bridge may have to be put back. */
  hear(change: HeardChange): void {
    if (change.kind !== "link" || change.gone) return;
    const by = this.ofChange(change);
    if (by !== undefined) this.note(`port ${change.link.name}`, by);
  }

  /** Who asked for a change of links, addresses or routes. */
  ofChange({ port }: HeardChange): Culprit | undefined {
    return port === this.own ? undefined : culpritOfSocket(port, undefined, this.witnesses);
  }

  /** Who wrote a setting, or one that turns it. */
  ofSetting(name: string): Culprit | undefined {
    this.#writes = [...this.#writes, ...this.witnesses.settingWrites()].slice(-MOST_WRITES);
    const family = /^net\.ipv([46])\.conf\.[^.]+\.(\w+)$/.exec(name);
    const all = family === null ? name : `net.ipv${family[1]}.conf.all.${family[2]}`;
    const names = new Set([name, all].map((one) => SAME_SETTING[one] ?? one));
    const since = this.now() - WRITE_MS;
    const write = this.#writes.findLast(
      ({ at, pid, setting, namespaceInode }) =>
        at >= since &&
        pid !== this.own &&
        namespaceInode === this.inode &&
        names.has(SAME_SETTING[setting] ?? setting),
    );
    return write && culpritOf({ pid: write.pid, process: write.name }, undefined, this.witnesses);
  }

  note(object: string, by: Culprit): void {
    const now = this.now();
    for (const [name, { at }] of this.#by) if (now - at > CAUSE_MS) this.#by.delete(name);
    this.#by.set(object, { at: now, by });
  }

  /** Who made this repair necessary. */
  of(object: string): Culprit | undefined {
    const known = this.#by.get(object) ?? this.#by.get(object.replace(/ of \S+$/, ""));
    if (known !== undefined && this.now() - known.at <= CAUSE_MS) return known.by;
    return object.startsWith("net.") ? this.ofSetting(object) : undefined;
  }
}
