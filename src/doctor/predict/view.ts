/** One namespace of a snapshot, prepared for predictions: look-ups by name, routing, sets by table. */
import type { NftSet, Table } from "../../linux/nftables/ruleset.ts";
import type { Link } from "../../linux/route/link.ts";
import type { IpsetState, NamespaceState } from "../../snapshot/snapshot.ts";
import { Fib } from "./fib.ts";
import { SetIndex } from "./sets.ts";

export class NodeView {
  readonly fib: Fib;
  /** When it was looked at; undefined where nothing says so (a pod's namespace). */
  readonly now: Date | undefined;
  readonly #byIndex: ReadonlyMap<number, Link>;
  readonly #byName: ReadonlyMap<string, Link>;
  readonly #ipsets: ReadonlyMap<string, IpsetState>;
  readonly #sets = new Map<NftSet, SetIndex>();

  constructor(readonly state: NamespaceState) {
    this.fib = new Fib(state);
    const at = state.counters.at(-1)?.at;
    this.now = at === undefined ? undefined : new Date(at);
    this.#byIndex = new Map(state.links.map((link) => [link.index, link]));
    this.#byName = new Map(
      state.links.flatMap((link) =>
        [link.name, ...link.alternativeNames].map((name) => [name, link] as const),
      ),
    );
    this.#ipsets = new Map(state.ipsets.map((set) => [set.name, set]));
  }

  link(name: string | undefined): Link | undefined {
    return name === undefined ? undefined : this.#byName.get(name);
  }

  linkAt(index: number | undefined): Link | undefined {
    return index === undefined ? undefined : this.#byIndex.get(index);
  }

  ipset(name: string): IpsetState | undefined {
    return this.#ipsets.get(name);
  }

  /** A sysctl as a number; undefined when it was not read. */
  sysctl(name: string): number | undefined {
    const text = this.state.sysctls[name];
    return text === undefined || text === "" ? undefined : Number(text);
  }

  /** `net.ipv4.conf.LINK.KEY`: the link itself says, and a file where it does not. */
  conf(family: 4 | 6, link: string, key: string): number | undefined {
    const own = this.link(link)?.[family === 4 ? "ipv4" : "ipv6"] as
      | Readonly<Record<string, number | undefined>>
      | undefined;
    return own?.[key] ?? this.sysctl(`net.ipv${family}.conf.${link}.${key}`);
  }

  set(table: Table, name: string): SetIndex | undefined {
    const set = table.sets.find((one) => one.name === name);
    if (set === undefined) return undefined;
    let index = this.#sets.get(set);
    if (index === undefined) this.#sets.set(set, (index = new SetIndex(set)));
    return index;
  }
}
