/**
 * Room `admission/`: lets pods through other products' filters, where the policy asks for it and nowhere else: one
 * marked rule a prefix, by the product's own door. Which doors were used is remembered under /run/wayout, so that any
 * process can close them again.
 *
 * In: the policy's `admit`, and the sources that are translated.
 * Out: what was admitted, and what is no longer.
 * Touches: marked rules in DOCKER-USER, ufw, firewalld and FORWARD, by those products' own programs;
 *   /run/wayout/admission.
 */
import { runDirectory } from "../kernel/run-directory.ts";
import { isDefaultCidr } from "../address/ip.ts";
import { messageOf } from "../error.ts";
import { makeDirectory, readTextIfThere, removeFile, removeIfEmpty } from "../kernel/file.ts";
import { replaceFile } from "../kernel/durable-file.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { podSources, type NatIntent } from "../nat/intent.ts";
import { ADMISSION_DOORS, type AdmissionDoor, type Admitted, type Door } from "./doors.ts";
import { FirewalldDoor } from "./firewalld-door.ts";
import { DOCKER_USER, FORWARD, IptablesDoor } from "./iptables-door.ts";
import { programsOf, type RunProgram } from "./run-program.ts";
import { UfwDoor } from "./ufw-door.ts";

/** Who shall be let through, and where. */
export interface AdmissionWish {
  readonly doors: readonly AdmissionDoor[];
  readonly cidrs: readonly string[];
}

export const NO_ADMISSION: AdmissionWish = { doors: [], cidrs: [] };

/**
 * Lets through whom we translate. A source that means everybody is no pods' network: it is never admitted, for then the
 * node would forward for the whole world.
 */
export function admissionOf(doors: readonly AdmissionDoor[], intents: readonly NatIntent[]): AdmissionWish {
  if (doors.length === 0) return NO_ADMISSION;
  const cidrs = intents.flatMap((intent) => podSources(intent).map(({ cidr }) => cidr));
  return { doors, cidrs: [...new Set(cidrs)].filter((cidr) => !isDefaultCidr(cidr)).sort() };
}

export interface AdmissionOutcome {
  readonly changes: readonly Admitted[];
  /** Doors of products that are not at work here. */
  readonly idle: readonly AdmissionDoor[];
  /** What could not be done, by door; the others do not wait for it. */
  readonly failures: readonly string[];
}

/** What we opened: by door, the prefixes. */
type OpenDoors = Partial<Record<AdmissionDoor, readonly string[]>>;

export class Admission {
  readonly #directory = `${runDirectory()}/admission`;
  readonly #path: string;
  readonly #run: RunProgram;

  constructor(
    private readonly node: NetworkNamespace,
    run = programsOf(node),
  ) {
    this.#path = `${this.#directory}/${node.cookie}.json`;
    this.#run = run;
  }

  /** Whether wayout, in any process, let a network through this door. */
  isOpen(door: AdmissionDoor): boolean {
    return this.#read()[door] !== undefined;
  }

  /** One door. undefined where its product is not at work. @throws WayoutError */
  async settle(door: AdmissionDoor, cidrs: readonly string[]): Promise<readonly Admitted[] | undefined> {
    if (cidrs.length === 0 && !this.isOpen(door)) return [];
    // Noted before it is opened.
    if (!this.isOpen(door)) this.#note(door, []);
    const changes = await this.#door(door).settle(cidrs);
    if (cidrs.length === 0) this.#note(door, undefined);
    return changes;
  }

  /** All doors as wished; each stands alone. */
  async settleAll({ doors, cidrs }: AdmissionWish): Promise<AdmissionOutcome> {
    const changes: Admitted[] = [];
    const idle: AdmissionDoor[] = [];
    const failures: string[] = [];
    for (const door of ADMISSION_DOORS) {
      try {
        const done = await this.settle(door, doors.includes(door) ? cidrs : []);
        if (done === undefined) idle.push(door);
        else changes.push(...done);
      } catch (error) {
        failures.push(messageOf(error));
      }
    }
    return { changes, idle, failures };
  }

  #door(name: AdmissionDoor): Door {
    switch (name) {
      case "docker-user":
        return new IptablesDoor(this.node, DOCKER_USER, this.#run);
      case "iptables-forward":
        return new IptablesDoor(this.node, FORWARD, this.#run);
      case "ufw-route":
        return new UfwDoor(this.#run);
      case "firewalld-zone":
        return new FirewalldDoor(this.#run, {
          read: () => this.#read()["firewalld-zone"] ?? [],
          write: (cidrs) => this.#note("firewalld-zone", cidrs),
        });
    }
  }

  #read(): OpenDoors {
    try {
      const value: unknown = JSON.parse(readTextIfThere(this.#path) ?? "{}");
      return typeof value === "object" && value !== null ? value : {};
    } catch {
      return {};
    }
  }

  #note(door: AdmissionDoor, cidrs: readonly string[] | undefined): void {
    const { [door]: _, ...others } = this.#read();
    const record: OpenDoors = cidrs === undefined ? others : { ...others, [door]: cidrs };
    if (Object.keys(record).length === 0) {
      removeFile(this.#path);
      removeIfEmpty(this.#directory);
      return;
    }
    makeDirectory(this.#directory, 0o755);
    replaceFile(this.#path, JSON.stringify(record), 0o600);
  }
}
