/**
 * Netfilter's hooks: what the kernel calls, in which order. Chains of all tables of the packet's families stand in one
 * row by priority. Conntrack looks at the packet at -200; all chains of type nat run together, in their own order,
 * where the kernel's NAT core has its place (destination -100, source 100), and only for the first packet of a flow.
 */
import { HOOK_PRIORITY } from "../../linux/netfilter.ts";
import type { BaseChain, Chain, Table } from "../../linux/nftables/ruleset.ts";
import { runChain, type ChainResult, type HookedChain } from "./chain.ts";
import { type Decision } from "./decision.ts";
import { Flow, zoneIn } from "./flow.ts";
import type { Machine } from "./machine.ts";
import { chooseBinding } from "./nat.ts";
import type { Packet } from "./packet.ts";
import { present } from "../../present.ts";
import { ICMPV6_TYPES } from "../../linux/icmp.ts";

export type InetHook = "prerouting" | "input" | "forward" | "output" | "postrouting";

/** Why a packet ended at a hook. */
export interface HookStop {
  readonly kind: "drop" | "queue" | "stolen" | "nat-refused";
  readonly by: Decision;
  readonly said?: string;
}

/** What a hook did to the packet, in order. */
export interface HookEvent {
  readonly chain: HookedChain;
  readonly table: Table;
  readonly result: ChainResult;
}

export interface HookResult {
  /** Who stopped the packet. Several, when behind the first one others would have stopped it, too. */
  readonly stops: readonly HookStop[];
  /** Chains it passed, with who decided in each. */
  readonly events: readonly HookEvent[];
  /** The rule that set a binding here. */
  readonly translated?: Decision;
}

interface Entry {
  readonly table: Table;
  readonly chain: HookedChain;
}

/** All base chains of a namespace, by family and hook, each row in calling order. */
export class HookTable {
  readonly #rows = new Map<string, Entry[]>();
  /** Whether a chain sees frames that are no IP packets. */
  seesFrames = false;

  constructor(readonly tables: readonly Table[]) {
    for (const table of tables) {
      if (table.flags.includes("dormant")) continue;
      for (const chain of table.chains) {
        if (!isHooked(chain)) continue;
        for (const family of familiesOf(table.family, chain.base.hook)) {
          if (typeof family === "string") this.seesFrames = true;
          const key = rowKey(family, chain.base.hook, chain.base.type === "nat");
          let row = this.#rows.get(key);
          if (row === undefined) this.#rows.set(key, (row = []));
          row.push({ table, chain });
        }
      }
    }
    // Of two with the same priority the kernel calls the one that was registered later first
    // (nf_hook_entries_grow); tables and chains are listed in the order in which they were made.
    for (const row of this.#rows.values()) {
      row.reverse();
      row.sort((a, b) => a.chain.base.priority - b.chain.base.priority);
    }
  }

  row(family: HookFamily, hook: string, nat: boolean): readonly Entry[] {
    return this.#rows.get(rowKey(family, hook, nat)) ?? [];
  }
}

export type HookFamily = 4 | 6 | "bridge" | "netdev" | "arp";

function rowKey(family: HookFamily, hook: string, nat: boolean): string {
  return `${family}/${hook}/${nat}`;
}

function isHooked(chain: Chain): chain is HookedChain {
  return chain.base !== undefined;
}

function familiesOf(family: Table["family"], hook: BaseChain["hook"]): readonly HookFamily[] {
  // A device hook sees frames, whatever family its table has.
  if (hook === "ingress" || hook === "egress") return ["netdev"];
  switch (family) {
    case "ip":
      return [4];
    case "ip6":
      return [6];
    case "inet":
      return [4, 6];
    default:
      return [family];
  }
}

/**
 * Sends the machine's packet through one hook of the IP stack.
 * @param until the priority at which the next part takes it
 */
export function runHook(
  machine: Machine,
  hooks: HookTable,
  hook: InetHook,
  until = Number.POSITIVE_INFINITY,
): HookResult {
  const events: HookEvent[] = [];
  const stops: HookStop[] = [];
  machine.hook = hook;
  const { family } = machine.packet;
  const manip = hook === "prerouting" || hook === "output" ? "destination" : "source";
  const natAt = manip === "destination" ? HOOK_PRIORITY.dstnat : HOOK_PRIORITY.srcnat;
  let tracked = hook !== "prerouting" && hook !== "output";
  let natted = hook === "forward";
  let translated: Decision | undefined;

  const catchUp = (priority: number): void => {
    if (!tracked && priority >= HOOK_PRIORITY.conntrack) {
      tracked = true;
      track(machine);
    }
    if (!natted && priority >= natAt) {
      natted = true;
      translated = runNat(machine, hooks, hook, manip, events, stops);
    }
  };
  for (const { table, chain } of hooks.row(family, hook, false)) {
    if (chain.base.priority >= until) break;
    catchUp(chain.base.priority);
    runEntry(machine, table, chain, events, stops);
  }
  catchUp(until);
  return translated === undefined ? { events, stops } : { events, stops, translated };
}

/** One base chain. A packet that it stops goes on, so that what would stop it next is found as well. */
function runEntry(
  machine: Machine,
  table: Table,
  chain: HookedChain,
  events: HookEvent[],
  stops: HookStop[],
): ChainResult {
  const before = machine.packet;
  const result = runChain(machine, table, chain);
  if (chain.base.type === "route" && isRoutedOtherwise(before, machine.packet)) machine.rerouted = true;
  events.push({ table, chain, result });
  if (result.verdict !== "accept") stops.push({ kind: result.verdict, by: result.by });
  return result;
}

/** What a chain of type route may change, and routing looks at (nf_route_table_hook4). */
function isRoutedOtherwise(before: Packet, after: Packet): boolean {
  return (
    before.mark !== after.mark ||
    before.destination !== after.destination ||
    before.source !== after.source ||
    before.dscp !== after.dscp
  );
}

/** The conntrack hook (nf_conntrack_in): a first packet begins a flow; an answer finds the flow that it belongs to. */
function track(machine: Machine): void {
  machine.isLookedAt = true;
  const { packet } = machine;
  if (packet.state === "untracked" || isNeighbourDiscovery(packet)) {
    machine.packet = { ...packet, state: "untracked" };
    machine.flow = undefined;
    return;
  }
  if (packet.reply || packet.aboutFlow === true) return trackAnswer(machine);
  machine.flow ??= newFlow(machine);
  machine.packet = { ...packet, state: machine.flow.seenReply ? "established" : "new" };
}

/** Conntrack leaves it alone (nf_conntrack_icmpv6_error). */
function isNeighbourDiscovery({ protocol, icmpType }: Packet): boolean {
  return (
    protocol === "icmpv6" &&
    icmpType >= ICMPV6_TYPES["nd-router-solicit"] &&
    icmpType <= ICMPV6_TYPES["nd-redirect"]
  );
}

function newFlow(machine: Machine): Flow {
  const flow = new Flow(tupleOf(machine.packet));
  flow.zone = machine.zone;
  flow.timeouts = machine.timeouts;
  return flow;
}

/** What finds no flow is a beginning of its own, or invalid: only UDP may begin with an answer. */
function trackAnswer(machine: Machine): void {
  const { packet, answered } = machine;
  if (answered !== undefined && zoneIn(answered.zone, "reply") === zoneIn(machine.zone, "reply")) {
    machine.flow = answered;
    machine.packet = { ...packet, state: packet.aboutFlow === true ? "related" : "established" };
    return;
  }
  machine.lostFlow = answered;
  if (packet.protocol !== "udp") {
    machine.packet = { ...packet, state: "invalid" };
    return;
  }
  // Its own reverse is the tuple of the flow that was not found: in one zone there is no room for both. The kernel looks
  // for it where its reverse would stand, and compares by the zone of the direction that it finds there.
  const taken = answered?.isTranslated === false ? zoneIn(answered.zone, "original") : undefined;
  machine.clashes = (["original", "reply"] as const).every((way) => zoneIn(machine.zone, way) === taken);
  machine.flow = newFlow(machine);
  machine.packet = { ...packet, state: "new", reply: false };
}

export function tupleOf(packet: Packet): {
  source: string;
  destination: string;
  protocol: Packet["protocol"];
  sourcePort: number;
  destinationPort: number;
} {
  const { source, destination, protocol, sourcePort, destinationPort } = packet;
  return { source, destination, protocol, sourcePort, destinationPort };
}

type Manip = "source" | "destination";

/** nf_nat_inet_fn: chains are asked until one has set a binding; then the packet is rewritten. */
function runNat(
  machine: Machine,
  hooks: HookTable,
  hook: InetHook,
  manip: Manip,
  events: HookEvent[],
  stops: HookStop[],
): Decision | undefined {
  const { flow } = machine;
  if (flow === undefined) return undefined;
  if (machine.packet.reply) {
    rewriteAnswer(machine, flow, manip);
    return undefined;
  }
  let translated: Decision | undefined;
  if (!flow.decided(manip)) {
    for (const { table, chain } of hooks.row(machine.packet.family, hook, true)) {
      machine.wanted = undefined;
      const { by } = runEntry(machine, table, chain, events, stops);
      const wanted = machine.wanted as Machine["wanted"];
      if (wanted === undefined) continue;
      const choice = chooseBinding(machine, wanted);
      if ("refused" in choice) {
        stops.push({ kind: "nat-refused", by, said: choice.refused });
        continue;
      }
      flow.bind(choice, manip);
      translated = by;
      break;
    }
    if (translated === undefined) flow.bind(undefined, manip);
  }
  const binding = flow.binding(manip);
  if (binding !== undefined) {
    const { address, port, ports } = binding;
    machine.packet =
      manip === "source"
        ? {
            ...machine.packet,
            source: address,
            sourcePort: port,
            ...present({ sourcePortFrom: ports }),
          }
        : { ...machine.packet, destination: address, destinationPort: port };
  }
  return translated;
}

/** Answers are turned back: where a source was translated, their destination, and the other way round. */
function rewriteAnswer(machine: Machine, flow: Flow, manip: Manip): void {
  const { original } = flow;
  if (manip === "destination" && flow.binding("source") !== undefined) {
    machine.packet = {
      ...machine.packet,
      destination: original.source,
      destinationPort: original.sourcePort,
    };
  }
  if (manip === "source" && flow.binding("destination") !== undefined) {
    machine.packet = {
      ...machine.packet,
      source: original.destination,
      sourcePort: original.destinationPort,
    };
  }
}

/** Runs the chains of the arp family. */
export function runArpHook(machine: Machine, hooks: HookTable, hook: "input" | "output"): HookResult {
  return runRow(machine, hooks.row("arp", hook, false), hook);
}

/** Runs the chains of the bridge family, which see whole frames: no conntrack, no NAT. */
export function runBridgeHook(machine: Machine, hooks: HookTable, hook: InetHook): HookResult {
  return runRow(machine, hooks.row("bridge", hook, false), hook);
}

/** Runs the netdev chains of one device: ingress before everything else, egress behind everything else. */
export function runDeviceHook(
  machine: Machine,
  hooks: HookTable,
  hook: "ingress" | "egress",
  device: string,
): HookResult {
  const row = hooks.row("netdev", hook, false).filter(({ chain }) => listens(chain.base, device));
  return runRow(machine, row, hook);
}

function runRow(machine: Machine, row: readonly Entry[], hook: string): HookResult {
  const events: HookEvent[] = [];
  const stops: HookStop[] = [];
  machine.hook = hook;
  for (const { table, chain } of row) runEntry(machine, table, chain, events, stops);
  return { events, stops };
}

function listens(base: BaseChain, device: string): boolean {
  return (base.devices ?? []).some((name) =>
    name.endsWith("*") ? device.startsWith(name.slice(0, -1)) : name === device,
  );
}
