/** nf_tables in one namespace: read the ruleset, change it in transactions, ask cheap questions. */
import { NetlinkConnection, type DumpVisitor } from "../netlink/connection.ts";
import { decodeAt, request, type MessageSpec, type Request } from "../../linux/netlink/message.ts";
import { NetlinkError } from "../../linux/netlink/netlink-error.ts";
import { NFNL_SUBSYS_NFTABLES } from "../../linux/netlink/nfnetlink.ts";
import { transaction } from "../netlink/transaction.ts";
import { NETLINK_NETFILTER, openTransport, type NetlinkTransport } from "../netlink/transport.ts";
import type { AttributesOf, AttributeSet, AttributeTable } from "../../linux/netlink/attributes.ts";
import { ERRNO, SystemError } from "../../linux/errno.ts";
import type { NetworkNamespace } from "../namespace.ts";
import {
  elementOf,
  type RulesetChange,
  type Transaction,
  type ElementSpec,
  type SetSpec,
} from "../../linux/nftables/commands.ts";
import { tableFingerprint } from "./fingerprint.ts";
import { rulesetGeneration } from "./generation.ts";
import { NFT_MSG } from "../../linux/nftables/messages.ts";
import {
  readChain,
  readElements,
  readFlowtable,
  readNftObject,
  readRule,
  readSet,
  readTable,
} from "../../linux/nftables/read.ts";
import { RuleDump } from "../../linux/nftables/rule-dump.ts";
import {
  FAMILIES,
  nftFamily,
  type ChainHead,
  type ChainRef,
  type Family,
  type Flowtable,
  type Hook,
  type NftObject,
  type NftSet,
  type Rule,
  type RuleRef,
  type Ruleset,
  type SetElement,
  type SetRef,
  type Table,
  type TableHead,
  type TableRef,
} from "../../linux/nftables/ruleset.ts";

/** Room for a large transaction: it must go out in one datagram. */
const SEND_BUFFER_BYTES = 16 * 1024 * 1024;
/** A ruleset that changes this often while it is read is not going to hold still. */
const READ_ATTEMPTS = 10;

export interface RulesetOptions {
  /** Only these families; all when absent. */
  readonly families?: readonly Family[];
  /** Only this table. */
  readonly table?: TableRef;
  /**
   * Decodes the expressions of rules when they are first asked for (see Rule.expressionAt): for a caller that looks at few of
   * many. What cannot be decoded is then an expression of kind `other` instead of an error.
   */
  readonly deferred?: boolean;
}

/** A base chain, or a flowtable. */
export interface HookedObject extends TableRef {
  readonly name: string;
  readonly hook: Hook;
}

/** The kernel's nf_tables, over one socket in one namespace. Close it, or let `using` do so. */
export class Nftables implements Disposable {
  readonly #connection: NetlinkConnection;

  constructor(transport: NetlinkTransport) {
    this.#connection = new NetlinkConnection(transport);
  }

  /** In the namespace given, or in the calling thread's own. @throws SystemError */
  static open(namespace?: NetworkNamespace): Nftables {
    const options = { sendBufferBytes: SEND_BUFFER_BYTES, ...(namespace === undefined ? {} : { namespace }) };
    return new Nftables(openTransport(NETLINK_NETFILTER, options));
  }

  close(): void {
    this.#connection.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** The number of the ruleset's generation: it changes with every transaction. One small exchange. */
  generation(): number {
    return rulesetGeneration(this.#connection);
  }

  /** Of a table of family inet, at this generation: see tableFingerprint. */
  fingerprint(table: string, generation: number): string | undefined {
    return tableFingerprint(this.#connection, table, generation);
  }

  /**
   * Everything, or what the options name, of one generation: when the ruleset changes meanwhile it is read again.
   * @throws NetlinkError, SystemError EAGAIN when it never holds still
   */
  ruleset(options: RulesetOptions = {}): Ruleset {
    return this.#steadily(() => {
      const generation = this.generation();
      const tables = this.#readTables(options);
      if (tables === undefined) return undefined;
      // One dump that found no table holds still by itself; most pods have none.
      return tables.length === 0 || this.generation() === generation ? { generation, tables } : undefined;
    });
  }

  /** Who is asked about packets: base chains and flowtables, without what they say. */
  hooked(): HookedObject[] {
    return this.#steadily(() => {
      const gathering = new Gathering({});
      const complete =
        this.#dump(NFT_MSG.getTable, NFT_MSG.newTable, 0, {}, (of, attributes) =>
          gathering.table(of, attributes),
        ) &&
        (gathering.tables.size === 0 ||
          (this.#dump(NFT_MSG.getChain, NFT_MSG.newChain, 0, {}, (of, attributes) =>
            gathering.chain(of, attributes),
          ) &&
            this.#dump(NFT_MSG.getFlowtable, NFT_MSG.newFlowtable, 0, {}, (of, attributes) =>
              gathering.flowtable(of, attributes),
            )));
      return complete ? [...gathering.tables.values()].flatMap(hookedIn) : undefined;
    });
  }

  /** @param read gives undefined when the ruleset changed meanwhile: then it is read again */
  #steadily<T>(read: () => T | undefined): T {
    for (let attempt = 1; attempt <= READ_ATTEMPTS; attempt++) {
      const found = read();
      if (found !== undefined) return found;
    }
    throw new SystemError(
      "NFT_MSG_GETRULE",
      ERRNO.EAGAIN,
      `the ruleset changed ${READ_ATTEMPTS} times while it was read`,
    );
  }

  /** One table with everything in it; undefined when it is not there. */
  table(ref: TableRef): Table | undefined {
    return this.ruleset({ table: ref }).tables[0];
  }

  /** All or nothing: the changes are carried out together. With `generation` only if that is still the current one
   * (ERESTART otherwise). @throws NetlinkError of the first change that the kernel refuses */
  transaction(changes: Transaction, doing: string, options: { readonly generation?: number } = {}): void {
    const requests: RulesetChange[] = changes.flat();
    transaction(this.#connection, NFNL_SUBSYS_NFTABLES, requests, doing, options.generation);
  }

  // ── Cheap questions ────────────────────────────────────────────────────────────────────────────────────────────

  /** A table without its contents; undefined when it is not there. */
  getTable(ref: TableRef): TableHead | undefined {
    const found = this.#get(
      NFT_MSG.getTable,
      NFT_MSG.newTable,
      ref,
      { name: ref.table },
      `table ${ref.table}`,
    );
    return found === undefined ? undefined : readTable(ref.family, found);
  }

  /** A chain without its rules; undefined when it, or its table, is not there. */
  getChain(ref: ChainRef): ChainHead | undefined {
    const key = { table: ref.table, name: ref.chain };
    const found = this.#get(NFT_MSG.getChain, NFT_MSG.newChain, ref, key, `chain ${ref.table} ${ref.chain}`);
    return found === undefined ? undefined : readChain(ref.family, found);
  }

  /** One rule by its handle; undefined when it is not there. */
  getRule(ref: RuleRef): Rule | undefined {
    const key = { table: ref.table, chain: ref.chain, handle: ref.handle };
    const what = `rule ${ref.handle} of ${ref.table} ${ref.chain}`;
    const found = this.#get(NFT_MSG.getRule, NFT_MSG.newRule, ref, key, what);
    return found === undefined ? undefined : readRule(found);
  }

  /** The rules of one chain, in order; undefined when the chain is not there. */
  chainRules(ref: ChainRef): Rule[] | undefined {
    const rules: Rule[] = [];
    const key = { table: ref.table, chain: ref.chain };
    const complete = this.#dump(
      NFT_MSG.getRule,
      NFT_MSG.newRule,
      FAMILIES[ref.family],
      key,
      (_, attributes) => {
        if (attributes.chain === ref.chain && attributes.table === ref.table)
          rules.push(readRule(attributes));
      },
    );
    if (!complete) return this.chainRules(ref);
    return rules.length > 0 || this.getChain(ref) !== undefined ? rules : undefined;
  }

  /** A set or map without its elements; undefined when it is not there. */
  getSet(ref: SetRef): Omit<NftSet, "elements"> | undefined {
    const key = { table: ref.table, name: ref.set };
    const found = this.#get(NFT_MSG.getSet, NFT_MSG.newSet, ref, key, `set ${ref.table} ${ref.set}`);
    return found === undefined ? undefined : readSet(found);
  }

  /** Whether a key is in a set or map: in an interval set, whether an interval covers it. */
  hasElement(set: SetSpec, key: ElementSpec["key"]): boolean {
    const bounds = elementOf(set, { key });
    const value = { table: set.table, set: set.set, elements: [{ key: bounds.key! }] };
    const what = `an element of set ${set.table} ${set.set}`;
    return this.#get(NFT_MSG.getElements, NFT_MSG.newElements, set, value, what) !== undefined;
  }

  /** The elements of one set or map; undefined when it is not there. */
  elements(ref: SetRef): SetElement[] | undefined {
    const set = this.getSet(ref);
    if (set === undefined) return undefined;
    return this.#readElements(FAMILIES[ref.family], ref.table, set) ?? this.elements(ref);
  }

  /** Asks for one object; undefined on ENOENT. */
  #get<T extends AttributeTable, H extends MessageSpec["header"]>(
    ask: MessageSpec<H, T>,
    answer: MessageSpec<H, T>,
    ref: TableRef,
    attributes: AttributesOf<AttributeSet<T>>,
    what: string,
  ): AttributesOf<AttributeSet<T>> | undefined {
    const header = { family: FAMILIES[ref.family] } as never;
    try {
      return this.#connection.request(request(ask, `reading ${what}`, header, attributes), answer)[0]
        ?.attributes;
    } catch (error) {
      if (error instanceof NetlinkError && error.code === "ENOENT") return undefined;
      throw error;
    }
  }

  // ── Dumps ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Hands every object of a kind to `each`. Returns false when the ruleset changed meanwhile. */
  #dump<T extends AttributeTable, H extends MessageSpec["header"]>(
    ask: MessageSpec<H, T>,
    answer: MessageSpec<H, T>,
    family: number,
    filter: AttributesOf<AttributeSet<T>>,
    each: (family: Family | undefined, attributes: AttributesOf<AttributeSet<T>>) => void,
  ): boolean {
    const header = { family } as never;
    const wanted = request(
      ask,
      `reading ${answer.name.slice("NFT_MSG_NEW".length).toLowerCase()}s`,
      header,
      filter,
    );
    return this.#visit(wanted, (wire, start, end) =>
      each(nftFamily(wire.bytes[start]!), decodeAt(answer, wire, start, end).attributes),
    );
  }

  /** The same for messages that are not decoded. */
  #visit(wanted: Request, visitor: DumpVisitor): boolean {
    try {
      return !this.#connection.dumpEach(wanted, visitor);
    } catch (error) {
      // EINTR and EAGAIN: the kernel gives up a dump itself; ENOENT: the table went away between two dumps.
      if (error instanceof NetlinkError && ["EINTR", "EAGAIN", "ENOENT"].includes(error.code)) return false;
      throw error;
    }
  }

  /** undefined when the ruleset changed meanwhile. */
  #readTables(options: RulesetOptions): Table[] | undefined {
    const gathering = new Gathering(options);
    const family = gathering.onlyFamily;
    const table = options.table?.table;
    const tablesComplete = this.#dump(NFT_MSG.getTable, NFT_MSG.newTable, family, {}, (of, attributes) =>
      gathering.table(of, attributes),
    );
    // Without a table there is nothing else; filtered dumps would end with ENOENT, which would look like a change.
    if (tablesComplete && gathering.tables.size === 0) return [];
    const rules = new RuleDump(
      (nfproto, owner, chain) => gathering.rulesOf(nftFamily(nfproto), owner, chain),
      options.deferred === true,
    );
    const complete =
      tablesComplete &&
      this.#dump(NFT_MSG.getChain, NFT_MSG.newChain, family, {}, (of, attributes) =>
        gathering.chain(of, attributes),
      ) &&
      this.#visit(
        request(NFT_MSG.getRule, "reading rules", { family }, table === undefined ? {} : { table }),
        (wire, start, end) => rules.add(wire, start, end),
      ) &&
      this.#dump(
        NFT_MSG.getSet,
        NFT_MSG.newSet,
        family,
        table === undefined ? {} : { table },
        (of, attributes) => gathering.set(of, attributes),
      ) &&
      this.#dump(NFT_MSG.getObject, NFT_MSG.newObject, family, {}, (of, attributes) =>
        gathering.object(of, attributes),
      ) &&
      this.#dump(NFT_MSG.getFlowtable, NFT_MSG.newFlowtable, family, {}, (of, attributes) =>
        gathering.flowtable(of, attributes),
      );
    if (!complete) return undefined;
    for (const { table: owner, set } of gathering.pendingSets) {
      const elements = this.#readElements(FAMILIES[owner.family], owner.name, set);
      if (elements === undefined) return undefined;
      gathering.tables.get(gatherKey(owner.family, owner.name))!.sets.push({ ...set, elements });
    }
    return [...gathering.tables.values()];
  }

  #readElements(family: number, table: string, set: Omit<NftSet, "elements">): SetElement[] | undefined {
    type Raw = NonNullable<AttributesOf<(typeof NFT_MSG.newElements)["attributes"]>["elements"]>[number];
    const raw: Raw[] = [];
    const filter = { table, set: set.name };
    const complete = this.#dump(NFT_MSG.getElements, NFT_MSG.newElements, family, filter, (_, attributes) => {
      for (const element of attributes.elements ?? []) raw.push(element);
    });
    return complete ? readElements(set, raw) : undefined;
  }
}

function hookedIn({ family, name: table, flags, chains, flowtables }: OpenTable): HookedObject[] {
  if (flags.includes("dormant")) return [];
  const bases = chains.flatMap(({ name, base }) => (base === undefined ? [] : [{ name, hook: base.hook }]));
  const offloaded = flowtables.map(({ name, hook }) => ({ name, hook }));
  return [...bases, ...offloaded].map((one) => ({ ...one, family, table }));
}

interface OpenChain extends ChainHead {
  readonly rules: Rule[];
}

interface OpenTable extends TableHead {
  readonly chains: OpenChain[];
  readonly sets: NftSet[];
  readonly objects: NftObject[];
  readonly flowtables: Flowtable[];
}

function gatherKey(family: Family, table: string): string {
  return `${family} ${table}`;
}

type Attributes<K extends keyof typeof NFT_MSG> = AttributesOf<(typeof NFT_MSG)[K]["attributes"]>;

/** Puts the objects of several dumps into their tables. */
class Gathering {
  readonly tables = new Map<string, OpenTable>();
  readonly pendingSets: { readonly table: OpenTable; readonly set: Omit<NftSet, "elements"> }[] = [];
  readonly onlyFamily: number;
  readonly #families: ReadonlySet<Family> | undefined;

  constructor(readonly options: RulesetOptions) {
    const families = options.table === undefined ? options.families : [options.table.family];
    this.#families = families === undefined ? undefined : new Set(families);
    this.onlyFamily = families?.length === 1 ? FAMILIES[families[0]!] : 0;
  }

  #find(family: Family | undefined, table: string | undefined): OpenTable | undefined {
    return family === undefined || table === undefined
      ? undefined
      : this.tables.get(gatherKey(family, table));
  }

  table(family: Family | undefined, attributes: Attributes<"newTable">): void {
    if (family === undefined || this.#families?.has(family) === false) return;
    if (this.options.table !== undefined && attributes.name !== this.options.table.table) return;
    const head = readTable(family, attributes);
    this.tables.set(gatherKey(family, head.name), {
      ...head,
      chains: [],
      sets: [],
      objects: [],
      flowtables: [],
    });
  }

  chain(family: Family | undefined, attributes: Attributes<"newChain">): void {
    const table = this.#find(family, attributes.table);
    table?.chains.push({ ...readChain(table.family, attributes), rules: [] });
  }

  /** Where the rules of a chain go. */
  rulesOf(
    family: Family | undefined,
    table: string | undefined,
    chain: string | undefined,
  ): Rule[] | undefined {
    return this.#find(family, table)?.chains.find((one) => one.name === chain)?.rules;
  }

  set(family: Family | undefined, attributes: Attributes<"newSet">): void {
    const table = this.#find(family, attributes.table);
    if (table !== undefined) this.pendingSets.push({ table, set: readSet(attributes) });
  }

  object(family: Family | undefined, attributes: Attributes<"newObject">): void {
    this.#find(family, attributes.table)?.objects.push(readNftObject(attributes));
  }

  flowtable(family: Family | undefined, attributes: Attributes<"newFlowtable">): void {
    this.#find(family, attributes.table)?.flowtables.push(readFlowtable(attributes));
  }
}
