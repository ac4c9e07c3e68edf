/**
 * Remembers, from one process to the next, what was found of the rules. The kernel counts the ruleset's generations up
 * with every transaction of any program: while the number stands, so does every finding, and one small question is enough
 * instead of reading the table. When it does not stand, our own table may still be the very one (a fingerprint tells):
 * what others do to their tables changes nothing in ours. The plugin asks at every call.
 *
 * The memory lies in /run, under the namespace's cookie, which the kernel never gives out twice; where it cannot be kept
 * nothing is lost but time.
 */
import { rethrowMistake } from "../error.ts";
import {
  fileVersion,
  listDirectory,
  makeDirectory,
  readText,
  removeFile,
  removeIfEmpty,
  renameFile,
  statFile,
  writeText,
} from "../kernel/file.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { runDirectory } from "../kernel/run-directory.ts";
import { platform } from "#platform";
import { isRemovedText } from "./removed.ts";
import { BESIDE } from "../naming/names.ts";

/** Namespaces come and go; more files than this are the traces of dead ones. */
const MOST_FILES = 256;

interface Noted {
  /** As text; undefined when nothing is noted. */
  readonly generation: string | undefined;
  /** "" when the table's fingerprint was not known. */
  readonly table: string;
  readonly findings: readonly string[];
}

export class GenerationMemory {
  readonly #path: string | undefined;

  constructor(
    namespace: NetworkNamespace,
    readonly directory = `${runDirectory()}/nat`,
  ) {
    const { cookie } = namespace;
    // An inode is given again to the next namespace, which would inherit what was found in this one.
    this.#path = cookie.startsWith("inode-") ? undefined : `${directory}/${cookie}`;
  }

  /** Where it is kept. */
  get path(): string {
    return this.#path ?? this.directory;
  }

  /** Another text when what is noted may be something else. */
  get version(): string {
    return this.#path === undefined ? "" : fileVersion(this.#path);
  }

  /** Whether `finding` was noted at exactly this generation. */
  holds(generation: number, finding: string): boolean {
    const noted = this.#read();
    return noted.generation === String(generation) && noted.findings.includes(finding);
  }

  /** Whether it depends on the table's fingerprint alone that `finding` counts: otherwise nobody need ask for that. */
  mayCarry(finding: string): boolean {
    const noted = this.#read();
    return noted.table !== "" && noted.findings.includes(finding);
  }

  /** The table's fingerprint at this generation, where it was noted. */
  tableAt(generation: number): string | undefined {
    const noted = this.#read();
    return noted.generation === String(generation) && noted.table !== "" ? noted.table : undefined;
  }

  /** Whether `finding` was noted of this very table; then it counts for the generation that is now. */
  carries(generation: number, table: string | undefined, finding: string): boolean {
    const noted = this.#read();
    if (table === undefined || table === "" || table !== noted.table || !noted.findings.includes(finding))
      return false;
    this.#write(generation, table, noted.findings);
    return true;
  }

  /** @param table our table's fingerprint at that generation; undefined when there is none, or nobody looked */
  note(generation: number, table: string | undefined, finding: string): void {
    const noted = this.#read();
    const same = noted.generation === String(generation) || (table !== undefined && table === noted.table);
    const kept = noted.findings.filter((other) => other !== finding && (same || isRemovedText(other)));
    if (noted.generation === undefined) this.#makeRoom();
    this.#write(generation, table ?? (same ? noted.table : ""), [...kept, finding]);
  }

  /** Notes what holds at every generation, until it is dropped. */
  noteLasting(finding: string): void {
    const { generation, table, findings } = this.#read();
    if (!findings.includes(finding)) this.#write(generation ?? "", table, [...findings, finding]);
  }

  /** All that was noted last, of whatever generation. */
  findings(): readonly string[] {
    return this.#read().findings;
  }

  /** What some findings are about is gone. */
  drop(isAbout: (finding: string) => boolean): void {
    this.#sweep();
    const { generation, table, findings } = this.#read();
    const kept = findings.filter((finding) => !isAbout(finding));
    if (kept.length < findings.length) this.#write(generation ?? "", table, kept);
  }

  /** Nothing of ours is in the namespace any more, and so nothing shall be left of the memory of it. */
  forget(): void {
    if (this.#path === undefined) return;
    removeQuietly(this.#path);
    this.#sweep();
    removeIfEmpty(this.directory);
  }

  #read(): Noted {
    try {
      const [generation, table, ...findings] = readText(this.#path ?? "").split("\n");
      return { generation, table: table ?? "", findings };
    } catch (error) {
      rethrowMistake(error);
      return { generation: undefined, table: "", findings: [] };
    }
  }

  /** Whole at every moment, but not brought to a disk: /run has none, and a lost note costs only time. */
  #write(generation: number | string, table: string, findings: readonly string[]): void {
    if (this.#path === undefined) return;
    const beside = `${this.#path}${BESIDE}${platform.pid()}`;
    try {
      makeDirectory(this.directory, 0o755);
      writeText(beside, [generation, table, ...findings].join("\n"), "w", 0o600);
      renameFile(beside, this.#path);
    } catch (error) {
      rethrowMistake(error);
      // /run is read-only or full, or belongs to another user. The next call reads the table again, that is all.
      removeQuietly(beside);
    }
  }

  /** What others who were killed while writing left beside the file. Who still writes loses a note, and only that. */
  #sweep(): void {
    try {
      for (const name of listDirectory(this.directory)) {
        const path = `${this.directory}/${name}`;
        if (path.startsWith(`${this.#path}${BESIDE}`)) removeFile(path);
      }
    } catch (error) {
      rethrowMistake(error);
      // There is no such directory, or it is not ours to change.
    }
  }

  /** Before a file comes: the oldest go when there are many. */
  #makeRoom(): void {
    try {
      const names = listDirectory(this.directory);
      if (names.length < MOST_FILES) return;
      const aged = names.map((name) => ({ name, at: statFile(`${this.directory}/${name}`).modifiedNs }));
      aged.sort((a, b) => (a.at < b.at ? -1 : 1));
      for (const { name } of aged.slice(0, MOST_FILES / 2)) removeFile(`${this.directory}/${name}`);
    } catch (error) {
      rethrowMistake(error);
      // There is no such directory yet, or it is not ours to change.
    }
  }
}

function removeQuietly(path: string): void {
  try {
    removeFile(path);
  } catch (error) {
    rethrowMistake(error);
    // It was not made, or is not ours to change.
  }
}
