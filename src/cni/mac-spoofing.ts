/**
 * `macspoofchk`: what a pod sends must carry the pod's own MAC. One rule for all pods in a table of our own; two sets
 * say which ports are checked and who may send there:
 *
 *     table bridge wayout {
 *       set checked_ports { type ifname }
 *       set port_senders { type ifname . ether_addr }
 *       chain prerouting {
 *         type filter hook prerouting priority -300
 *         iifname @checked_ports iifname . ether saddr != @port_senders drop
 *       }
 *     }
 */
import { BRIDGE_HOOK_PRIORITY } from "../linux/netfilter.ts";
import { macText } from "../address/mac.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { NetlinkError } from "../linux/netlink/netlink-error.ts";
import {
  addChain,
  addElements,
  addRule,
  addSet,
  addTable,
  deleteElements,
  deleteTable,
  type Transaction,
  type SetSpec,
} from "../linux/nftables/commands.ts";
import { Nftables } from "../kernel/nftables/nftables.ts";
import { drop, inSet, match } from "../linux/nftables/rule-builder.ts";
import { bytesOfHex, decodeUtf8 } from "../platform/bytes.ts";

const TABLE = { family: "bridge", table: "wayout" } as const;
const CHAIN = { ...TABLE, chain: "prerouting" } as const;
const PORTS: SetSpec = { ...TABLE, set: "checked_ports", type: "ifname" };
const SENDERS: SetSpec = { ...TABLE, set: "port_senders", type: "ifname . ether_addr" };
/** Before bridge NAT. */
const PRIORITY = BRIDGE_HOOK_PRIORITY.dstnat;
/** Other programs' transactions may come between our look and our change; more often than this they hardly do. */
const ATTEMPTS = 20;

/** Ports (host names of pod links) and the MACs that may send there, in the calling thread's namespace. */
export class MacSpoofing implements Disposable {
  readonly #nftables: Nftables;

  constructor(namespace?: NetworkNamespace) {
    this.#nftables = Nftables.open(namespace);
  }

  /** Lets nobody but `mac` send from the port. */
  guard(port: string, mac: string): void {
    this.#change(`checking the senders of ${port}`, () => {
      const table = this.#nftables.getChain(CHAIN) === undefined ? makeTable() : [];
      return [...table, addElements(PORTS, [{ key: port }]), addElements(SENDERS, [{ key: [port, mac] }])];
    });
  }

  isGuarded(port: string, mac: string): boolean {
    return (
      this.#nftables.getChain(CHAIN)?.use !== undefined &&
      (this.#nftables.chainRules(CHAIN)?.length ?? 0) > 0 &&
      this.#nftables.hasElement(PORTS, port) &&
      this.#nftables.hasElement(SENDERS, [port, mac])
    );
  }

  /** Ports that are checked. */
  ports(): string[] {
    const elements = this.#nftables.elements(PORTS) ?? [];
    return elements.flatMap(({ key }) => (key === undefined ? [] : [nameOf(key)]));
  }

  /** No more checks on these ports; the table goes with its last port. False when none was checked. */
  release(ports: readonly string[]): boolean {
    let found = false;
    this.#change(`forgetting the senders of ${ports.join(", ")}`, () => {
      const guarded = this.ports();
      const mine = guarded.filter((port) => ports.includes(port));
      found = mine.length > 0;
      if (!found) return [];
      if (mine.length === guarded.length) return [deleteTable(TABLE)];
      const senders = (this.#nftables.elements(SENDERS) ?? []).flatMap(({ key }) => {
        if (key === undefined || !mine.includes(nameOf(key))) return [];
        return [{ key: [nameOf(key), macText(bytesOfHex(key.slice(IFNAME_HEX, IFNAME_HEX + 12)))] }];
      });
      return [
        deleteElements(SENDERS, senders),
        deleteElements(
          PORTS,
          mine.map((port) => ({ key: port })),
        ),
      ];
    });
    return found;
  }

  [Symbol.dispose](): void {
    this.#nftables.close();
  }

  /** Decides on a ruleset and changes that very ruleset, again when another program was faster. */
  #change(doing: string, decide: () => Transaction): void {
    for (let attempt = 1; ; attempt++) {
      const generation = this.#nftables.generation();
      const changes = decide();
      if (changes.length === 0) return;
      try {
        this.#nftables.transaction(changes, doing, { generation });
        return;
      } catch (error) {
        // ERESTART (errno 85, which no program is meant to see): the generation is another one by now.
        const overtaken = error instanceof NetlinkError && error.errno === 85;
        if (!overtaken || attempt === ATTEMPTS) throw error;
      }
    }
  }
}

/** IFNAMSIZ bytes, in hexadecimal digits. */
const IFNAME_HEX = 32;

/** The interface name that a key begins with. */
function nameOf(key: string): string {
  return decodeUtf8(bytesOfHex(key.slice(0, IFNAME_HEX))).replace(/\0.*$/s, "");
}

function makeTable(): Transaction {
  return [
    addTable(TABLE),
    addSet(PORTS),
    addSet(SENDERS),
    addChain(CHAIN, { base: { type: "filter", hook: "prerouting", priority: PRIORITY } }),
    addRule(CHAIN, {
      expressions: [
        match("meta iifname", inSet(PORTS.set)),
        match(["meta iifname", "ether saddr"], inSet(SENDERS.set), "!="),
        [drop()],
      ].flat(),
    }),
  ];
}
