/** How full the connection table was over the last hour. Counting costs one small file; looking through it would not. */
import { readSysctl } from "../kernel/sysctl.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";

const EVERY_MS = 10_000;
const KEPT_MS = 3_600_000;

export interface TableFigure {
  /** ISO 8601. */
  readonly at: string;
  readonly entries: number;
  readonly maximum: number;
}

export class TableHistory implements Disposable {
  #kept: readonly TableFigure[] = [];
  readonly #timer: ReturnType<typeof setInterval>;

  constructor(private readonly node: NetworkNamespace) {
    this.#count();
    this.#timer = setInterval(() => this.#count(), EVERY_MS);
  }

  /** The oldest first. */
  get kept(): readonly TableFigure[] {
    return this.#kept;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #count(): void {
    const [entries, maximum] = ["count", "max"].map((name) =>
      this.#read(`net.netfilter.nf_conntrack_${name}`),
    );
    if (entries === undefined || maximum === undefined) return;
    this.#kept = [...this.#kept, { at: new Date().toISOString(), entries, maximum }].slice(
      -KEPT_MS / EVERY_MS,
    );
  }

  #read(name: string): number | undefined {
    try {
      const text = readSysctl(this.node, name);
      return text === undefined ? undefined : Number(text);
    } catch {
      return undefined;
    }
  }
}
