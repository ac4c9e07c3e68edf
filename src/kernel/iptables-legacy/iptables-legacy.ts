/** The tables of iptables-legacy and ip6tables-legacy in a namespace, over getsockopt(2) on a raw socket. */
import { IP_PROTOCOL } from "../../linux/ip-protocol.ts";
import { AF_INET, AF_INET6, SOCK_RAW, SOL_IP, SOL_IPV6 } from "../../linux/socket.ts";
import { ERRNO, SystemError } from "../../linux/errno.ts";
import { close, getsockoptInto, socket } from "../calls.ts";
import { encodeUtf8 } from "../../platform/bytes.ts";
import type { NetworkNamespace } from "../namespace.ts";
import { isIptablesTable, iptablesText } from "../../linux/nftables/text/ruleset.ts";
import type { Table } from "../../linux/nftables/ruleset.ts";
import { tooLong } from "../netlink/bounded.ts";
import { legacyTableNames } from "./table-names.ts";
import type { XtFamily } from "../../linux/xtables/extension.ts";
import { readLegacyTable, type TableInfo } from "../../linux/iptables-legacy/entries.ts";
import { present } from "../../present.ts";

/** IPT_SO_GET_INFO and IPT_SO_GET_ENTRIES; ip6_tables has the same numbers. */
const GET_INFO = 64;
const GET_ENTRIES = 65;
/** char name[XT_TABLE_MAXNAMELEN] */
const NAME_BYTES = 32;
/** sizeof(struct ipt_getinfo), and where the entries of struct ipt_get_entries begin. */
const INFO_BYTES = 84;
const ENTRIES_START = 40;
/** A table that is replaced between the two questions is asked for again. */
const ATTEMPTS = 10;

/** The order in which iptables-save lists tables. */
const TABLE_ORDER = ["raw", "mangle", "nat", "filter", "security"] as const;

function inside<T>(namespace: NetworkNamespace | undefined, run: () => T): T {
  return namespace === undefined ? run() : namespace.run(run);
}

export interface LegacyReading {
  /** The calling thread's own when absent. */
  readonly namespace?: NetworkNamespace;
  /** Both when absent. */
  readonly families?: readonly XtFamily[];
  /** A table that is larger is not read at all. */
  readonly mostBytes?: number;
}

/**
 * Every iptables-legacy table of the namespace, as nf_tables would have it. Handles are 0 for tables and chains; a rule's is
 * its number in the table.
 * @throws SystemError EPERM without privilege over the namespace, EFBIG when a table is larger than `mostBytes`
 */
export function readLegacyTables(reading: LegacyReading = {}): Table[] {
  const { namespace, families = ["ip", "ip6"], mostBytes } = reading;
  return families.flatMap((family) => {
    const names = legacyTableNames(family, namespace).sort(byTableOrder);
    const blocks = readLegacyBlocks(family, names, namespace, mostBytes);
    return blocks.map(({ name, info, entries }) => readLegacyTable(family, name, info, entries));
  });
}

/** A table as the kernel hands it over. */
export interface LegacyBlock {
  readonly name: string;
  readonly info: TableInfo;
  readonly entries: Uint8Array;
}

/** @param names of tables that exist: asking for another makes the kernel create it */
export function readLegacyBlocks(
  family: XtFamily,
  names: readonly string[],
  namespace?: NetworkNamespace,
  mostBytes = Infinity,
): LegacyBlock[] {
  if (names.length === 0) return [];
  const isIpv4 = family === "ip";
  const fd = inside(namespace, () => socket(isIpv4 ? AF_INET : AF_INET6, SOCK_RAW, IP_PROTOCOL.raw));
  try {
    return names.map((name) => ({ name, ...readBlock(fd, isIpv4 ? SOL_IP : SOL_IPV6, name, mostBytes) }));
  } finally {
    close(fd);
  }
}

function byTableOrder(a: string, b: string): number {
  const place = (name: string): number => (TABLE_ORDER as readonly string[]).indexOf(name);
  return place(a) - place(b);
}

function readBlock(fd: number, level: number, name: string, mostBytes: number): Omit<LegacyBlock, "name"> {
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    const info = readInfo(fd, level, name);
    if (info.size > mostBytes) throw tooLong("getsockopt", mostBytes);
    const block = new Uint8Array(ENTRIES_START + info.size);
    block.set(encodeUtf8(name));
    new DataView(block.buffer).setUint32(NAME_BYTES, info.size, true);
    try {
      const filled = getsockoptInto(fd, level, GET_ENTRIES, block);
      return { info, entries: filled.subarray(ENTRIES_START) };
    } catch (error) {
      // EAGAIN: the table has another size by now.
      if (!(error instanceof SystemError && error.code === "EAGAIN")) throw error;
    }
  }
  throw new SystemError(
    "getsockopt",
    ERRNO.EAGAIN,
    `table ${name} changed ${ATTEMPTS} times while it was read`,
  );
}

function readInfo(fd: number, level: number, name: string): TableInfo {
  const bytes = new Uint8Array(INFO_BYTES);
  bytes.set(encodeUtf8(name));
  const view = new DataView(bytes.buffer);
  getsockoptInto(fd, level, GET_INFO, bytes);
  const five = (at: number): number[] => [0, 1, 2, 3, 4].map((hook) => view.getUint32(at + hook * 4, true));
  return {
    validHooks: view.getUint32(NAME_BYTES, true),
    hookEntry: five(NAME_BYTES + 4),
    underflow: five(NAME_BYTES + 24),
    entries: view.getUint32(NAME_BYTES + 44, true),
    size: view.getUint32(NAME_BYTES + 48, true),
  };
}

/** Tables as `iptables-legacy-save -c` writes them. @param ipsets names by index; without it rules show the index */
export function legacyText(tables: readonly Table[], ipsets?: ReadonlyMap<number, string>): string {
  return tables
    .filter((table) => isIptablesTable(table))
    .map((table) => {
      const heads = table.chains.map((chain) => {
        const counter = `[${chain.counter?.packets ?? 0}:${chain.counter?.bytes ?? 0}]`;
        return `:${chain.name} ${chain.base === undefined ? "-" : chain.base.policy.toUpperCase()} ${counter}`;
      });
      const rules = table.chains.flatMap((chain) =>
        chain.rules.map((rule) => {
          const counted = rule.expressions.find((expression) => expression.kind === "counter");
          const counter = `[${counted?.packets ?? 0}:${counted?.bytes ?? 0}]`;
          const text = iptablesText(rule, table.family, present({ ipsets }));
          return `${counter} -A ${chain.name} ${text}`.trimEnd();
        }),
      );
      return `*${table.name}\n${[...heads, ...rules].join("\n")}\nCOMMIT\n`;
    })
    .join("");
}
