/**
 * Remembers, from one process to the next, at which generation of the ruleset somebody was found content. The kernel
 * counts generations up with every transaction of anybody's, so while the number stands, so does the finding: one small
 * question instead of reading the table. The plugin asks at every call.
 *
 * The memory lies in /run, under the namespace's cookie, which the kernel never gives out twice; where it cannot be kept
 * nothing is lost but time.
 */
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { NetworkNamespace } from "../kernel/namespace.ts";

const DIRECTORY = "/run/wayout/nat";
/** Namespaces come and go; more files than this are the traces of dead ones. */
const MOST_FILES = 256;

export class GenerationMemory {
  readonly #path: string | undefined;

  constructor(
    namespace: NetworkNamespace,
    readonly directory = DIRECTORY,
  ) {
    const { cookie } = namespace;
    // An inode is given again to the next namespace, which would inherit what was found in this one.
    this.#path = cookie.startsWith("inode-") ? undefined : join(directory, cookie);
  }

  /** Whether `finding` was noted at exactly this generation. */
  holds(generation: number, finding: string): boolean {
    const [noted, ...findings] = this.#read();
    return noted === String(generation) && findings.includes(finding);
  }

  note(generation: number, finding: string): void {
    if (this.#path === undefined) return;
    const [noted, ...findings] = this.#read();
    const kept = noted === String(generation) ? findings : [];
    try {
      mkdirSync(this.directory, { recursive: true, mode: 0o755 });
      if (noted === undefined) this.#forgetOldest();
      replaceQuickly(this.#path, [generation, ...kept, finding].join("\n"));
    } catch {
      // /run is read-only or full, or belongs to another user. The next call reads the table again, that is all.
    }
  }

  /** Nothing of ours is in the namespace any more, and so nothing shall be left of the memory of it. */
  forget(): void {
    if (this.#path === undefined) return;
    try {
      rmSync(this.#path, { force: true });
      rmdirSync(this.directory);
    } catch {
      // Other namespaces have theirs there, or it is gone, or not ours to change.
    }
  }

  #read(): string[] {
    if (this.#path === undefined) return [];
    try {
      return readFileSync(this.#path, "utf8").split("\n");
    } catch {
      return [];
    }
  }

  #forgetOldest(): void {
    const names = readdirSync(this.directory);
    if (names.length < MOST_FILES) return;
    const aged = names.map((name) => ({ name, at: statSync(join(this.directory, name)).mtimeMs }));
    for (const { name } of aged.sort((a, b) => a.at - b.at).slice(0, MOST_FILES / 2)) {
      rmSync(join(this.directory, name), { force: true });
    }
  }
}

/** Whole at every moment, but not brought to a disk: /run has none, and a lost note costs only time. */
function replaceQuickly(path: string, text: string): void {
  const beside = `${path}.${process.pid}`;
  try {
    writeFileSync(beside, text, { mode: 0o600 });
    renameSync(beside, path);
  } catch (error) {
    rmSync(beside, { force: true });
    throw error;
  }
}
