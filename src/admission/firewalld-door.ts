/**
 * firewalld lets through, and says so in its own documentation, what comes from a source of its zone `trusted`. A source
 * has no comment: which are ours is remembered beside it. Bound for the running firewalld only, so that nothing of ours
 * outlives it: a reload takes it away, and the agent puts it back.
 */
import { WayoutError } from "../error.ts";
import type { Admitted, Door } from "./doors.ts";
import { refused, which, type RunProgram } from "./program.ts";

const ZONE = "trusted";
/** Exit code of firewall-cmd (firewall-cmd(1)). */
const NOT_RUNNING = 252;

/** What we bound, and nobody else: remembered before it is done. */
export interface OwnSources {
  readonly read: () => readonly string[];
  readonly write: (cidrs: readonly string[]) => void;
}

export class FirewalldDoor implements Door {
  constructor(
    private readonly run: RunProgram,
    private readonly own: OwnSources,
  ) {}

  async settle(cidrs: readonly string[]): Promise<readonly Admitted[] | undefined> {
    const own = this.own.read();
    const program = which("firewall-cmd", "firewalld");
    const listed = await this.run([program, `--zone=${ZONE}`, "--list-sources"]);
    if (listed.exitCode === NOT_RUNNING) {
      if (own.length > 0) this.own.write([]);
      return undefined;
    }
    if (listed.exitCode !== 0) throw refused(`reading firewalld's zone ${ZONE}`, listed);
    const there = new Set(listed.stdout.split(/\s+/).filter((word) => word !== ""));
    // What is there and not ours, somebody else bound: it is admitted, and stays when we go.
    const missing = cidrs.filter((cidr) => !there.has(cidr));
    const surplus = own.filter((cidr) => there.has(cidr) && !cidrs.includes(cidr));
    const ours = [...own.filter((cidr) => there.has(cidr)), ...missing];
    if (missing.length > 0) this.own.write(ours);
    if (missing.length > 0) await this.#change(program, "add", missing);
    if (surplus.length > 0) await this.#change(program, "remove", surplus);
    const left = ours.filter((cidr) => !surplus.includes(cidr));
    if (left.join() !== this.own.read().join()) this.own.write(left);
    const told = (cidr: string, found: string): Admitted => ({
      object: `${cidr} in firewalld's zone ${ZONE}`,
      found: `the source ${cidr} of firewalld's zone ${ZONE} ${found}`,
    });
    return [
      ...missing.map((cidr) => told(cidr, "was missing")),
      ...surplus.map((cidr) => told(cidr, "was there, and is not wanted")),
    ];
  }

  /** One call for all: each costs the start of a Python. */
  async #change(program: string, verb: "add" | "remove", cidrs: readonly string[]): Promise<void> {
    const ran = await this.run([
      program,
      `--zone=${ZONE}`,
      ...cidrs.map((cidr) => `--${verb}-source=${cidr}`),
    ]);
    if (ran.exitCode === 0) return;
    const doing = `${verb === "add" ? "admitting" : "withdrawing"} ${cidrs.join(", ")} in firewalld's zone ${ZONE}`;
    const isConflict = ran.stderr.includes("ZONE_CONFLICT");
    throw isConflict ? conflict(doing, ran.stderr.trim()) : refused(doing, ran);
  }
}

function conflict(doing: string, said: string): WayoutError {
  return new WayoutError({
    code: "not-admitted",
    kind: "broken",
    doing,
    said,
    todo: "A source belongs to one zone only: firewall-cmd --get-active-zones names it. Take it out there, or let that zone forward.",
  });
}
