/**
 * The agent's policy, from the file or files in which it stands: read again when they change, and held when they cannot
 * be read. A bad file never takes away what a good one said.
 */
import { DEFAULT_BACKEND } from "../nat/backends/backends.ts";
import { readdirSync, watch, type FSWatcher } from "node:fs";
import { dirname, join } from "node:path";
import { codeOf, messageOf } from "../error.ts";
import { readSettings } from "../kernel/settings-file.ts";
import type { PolicyWish } from "./desired.ts";
import { readMasqFiles, type MasqFile } from "../policy/dialects/ip-masq-agent.ts";
import { parsePolicy } from "../policy/policy-file.ts";

/** Where the policy stands, and in whose words. */
export type PolicyPlace =
  | { readonly dialect: "wayout"; readonly path: string }
  | { readonly dialect: "ip-masq-agent"; readonly path: string; readonly sources: readonly string[] }
  /** A directory: every `ip-masq*` in it counts. */
  | { readonly dialect: "azure-v2"; readonly path: string; readonly sources: readonly string[] };

export interface PolicyState {
  /** What holds: the last that could be read. */
  readonly policy: PolicyWish | undefined;
  /** Why the file as it is now does not hold; undefined when it does. */
  readonly trouble: string | undefined;
  readonly warnings: readonly string[];
  /** The files that were read for `policy`, as they were then: they may say something else, or nothing, by now. */
  readonly files: readonly PolicyText[];
}

export interface PolicyText {
  readonly name: string;
  readonly text: string;
}

/** Changes are announced; where they are not (network file systems), this is how soon they are seen. */
const LOOK_EVERY_MS = 1_000;
/** Writers write more than once. */
const SETTLE_MS = 20;
const MOST_FILES = 100;

export class PolicySource {
  #state: PolicyState;
  /** The files as they were last read; undefined while they cannot be read. */
  #seen: string | undefined;
  #watcher: FSWatcher | undefined;
  #settling: ReturnType<typeof setTimeout> | undefined;
  readonly #timer: ReturnType<typeof setInterval>;
  #reading: Promise<void> = Promise.resolve();

  private constructor(
    private readonly place: PolicyPlace,
    private readonly changed: (state: PolicyState) => void,
    held: PolicyWish | undefined,
  ) {
    this.#state = { policy: held, trouble: undefined, warnings: [], files: [] };
    this.#timer = setInterval(() => void this.look(), LOOK_EVERY_MS);
    try {
      // The directory: an editor, or a mounted ConfigMap, puts another file in the place of the one that is watched.
      const directory = place.dialect === "azure-v2" ? place.path : dirname(place.path);
      this.#watcher = watch(directory, () => this.#soon());
    } catch {
      // It is looked at anyway.
    }
  }

  /**
   * @param changed hears of every other state, of the first one as well
   * @param held what is in force while the files cannot be used
   */
  static async open(
    place: PolicyPlace,
    changed: (state: PolicyState) => void,
    held?: PolicyWish,
  ): Promise<PolicySource> {
    const source = new PolicySource(place, changed, held);
    await source.look();
    return source;
  }

  get state(): PolicyState {
    return this.#state;
  }

  /** Reads again if something is different. */
  look(): Promise<void> {
    this.#reading = this.#reading.then(() => this.#read());
    return this.#reading;
  }

  close(): void {
    clearInterval(this.#timer);
    clearTimeout(this.#settling);
    this.#watcher?.close();
  }

  #soon(): void {
    clearTimeout(this.#settling);
    this.#settling = setTimeout(() => void this.look(), SETTLE_MS);
  }

  async #read(): Promise<void> {
    let state: PolicyState;
    try {
      const files = this.#files();
      const seen = JSON.stringify(files);
      if (seen === this.#seen) return;
      this.#seen = seen;
      const there = files.flatMap(({ name, text }) => (text === undefined ? [] : [{ name, text }]));
      state = { trouble: undefined, files: there, ...(await understood(this.place, files)) };
    } catch (error) {
      const trouble = messageOf(error);
      if (trouble === this.#state.trouble) return;
      state = { ...this.#state, trouble };
    }
    this.#state = state;
    this.changed(state);
  }

  /** What could not be read is read again when it can be, also when it says what it said before. */
  #files(): MasqFile[] {
    try {
      return filesOf(this.place);
    } catch (error) {
      this.#seen = undefined;
      throw error;
    }
  }
}

async function understood(
  place: PolicyPlace,
  files: readonly MasqFile[],
): Promise<Pick<PolicyState, "policy" | "warnings">> {
  if (place.dialect === "wayout") {
    const [file] = files;
    if (file?.text === undefined) throw new Error(`there is no ${place.path}`);
    const { backend, intent, admit, fastPath } = await parsePolicy(file.text, file.name);
    return { policy: { backend, intent, admit, fastPath }, warnings: [] };
  }
  const { intent, warnings } = await readMasqFiles(files, { dialect: place.dialect, sources: place.sources });
  return { policy: { backend: DEFAULT_BACKEND, intent, admit: [] }, warnings };
}

function filesOf({ dialect, path }: PolicyPlace): MasqFile[] {
  if (dialect !== "azure-v2") return [{ name: path, text: textOf(path) }];
  const names = readdirSync(path)
    .filter((name) => name.startsWith("ip-masq"))
    .sort();
  if (names.length > MOST_FILES)
    throw new Error(`${path} holds ${names.length} files; at most ${MOST_FILES} are read`);
  return names.map((name) => ({ name: join(path, name), text: textOf(join(path, name)) }));
}

/** undefined: there is none. */
function textOf(path: string): string | undefined {
  try {
    return readSettings(path);
  } catch (error) {
    if (codeOf(error) === "ENOENT") return undefined;
    throw error;
  }
}
