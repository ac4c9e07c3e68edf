/**
 * firewalld lets through, and says so in its own documentation, what comes from a source of its zone `trusted`. A source
 * has no comment: which are ours is remembered beside it. Bound for the running firewalld only, so that nothing of ours
 * outlives it: a reload takes it away, and the agent puts it back.
 *
 * It is asked over D-Bus, with the program that comes with every bus: firewall-cmd is a Python, which takes as long to start
 * as a repair may.
 */
import { WayoutError } from "../error.ts";
import type { Admitted, Door } from "./doors.ts";
import { refused, which, type Ran, type RunProgram } from "./run-program.ts";

const ZONE = "trusted";
const SERVICE = "org.fedoraproject.FirewallD1";

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
    if (!(await this.#runs())) {
      if (own.length > 0) this.own.write([]);
      return undefined;
    }
    const there = await this.#sources();
    // What is there and not ours, another program bound: it is admitted, and stays when we go.
    const missing = cidrs.filter((cidr) => !there.has(cidr));
    const surplus = own.filter((cidr) => there.has(cidr) && !cidrs.includes(cidr));
    const ours = [...own.filter((cidr) => there.has(cidr)), ...missing];
    if (missing.length > 0) this.own.write(ours);
    for (const cidr of missing) await this.#change("addSource", cidr);
    for (const cidr of surplus) await this.#change("removeSource", cidr);
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

  /** Asked of the bus, not of firewalld: a question to who does not run would start it. */
  async #runs(): Promise<boolean> {
    const ran = await this.#call(
      "org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus.NameHasOwner",
      SERVICE,
    );
    // Without a bus there is no firewalld either.
    return ran.exitCode === 0 && /boolean true/.test(ran.stdout);
  }

  async #sources(): Promise<ReadonlySet<string>> {
    const ran = await this.#call(methodOf("getSources"), ZONE);
    if (ran.exitCode !== 0) throw refused(`reading firewalld's zone ${ZONE}`, ran);
    return new Set([...ran.stdout.matchAll(/string "([^"]*)"/g)].map(([, source]) => source!));
  }

  async #change(method: "addSource" | "removeSource", cidr: string): Promise<void> {
    const ran = await this.#call(methodOf(method), ZONE, cidr);
    if (ran.exitCode === 0 || /ZONE_ALREADY_SET|UNKNOWN_SOURCE/.test(ran.stderr)) return;
    const doing = `${method === "addSource" ? "admitting" : "withdrawing"} ${cidr} in firewalld's zone ${ZONE}`;
    throw ran.stderr.includes("ZONE_CONFLICT") ? conflict(doing, ran.stderr.trim()) : refused(doing, ran);
  }

  /** @param method `DESTINATION PATH METHOD` */
  #call(method: string, ...words: readonly string[]): Promise<Ran> {
    const [destination, path, name] = method.split(" ");
    const program = which("dbus-send", "firewalld");
    const given = words.map((word) => `string:${word}`);
    return this.run([program, "--system", "--print-reply", `--dest=${destination}`, path!, name!, ...given]);
  }
}

function methodOf(name: string): string {
  return `${SERVICE} /org/fedoraproject/FirewallD1 ${SERVICE}.zone.${name}`;
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
