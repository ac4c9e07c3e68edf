/** The state of one prediction while it follows the packet. What stops it is noted, and the walk goes on as if mended. */
import type { VirtualService } from "../../kernel/procfs.ts";
import type { Link } from "../../linux/route/link.ts";
import type { NamespaceState, PodState, ProgramState, Snapshot } from "../../snapshot/snapshot.ts";
import type { Decision } from "./decision.ts";
import type { Flow } from "./flow.ts";
import { productOfProgram, programText } from "../bpf-programs.ts";
import { HookTable, runDeviceHook, runHook, tupleOf, type HookResult, type InetHook } from "./hooks.ts";
import { Machine } from "./machine.ts";
import type { Oracle } from "./oracle.ts";
import type { Packet, Tuple } from "./packet.ts";
import type { LocalEnd } from "./local-end.ts";
import type { BlindSpot, End, PathStep, Prediction, Stop, Target, AtLink } from "./path.ts";
import type { Direction, Side } from "./side.ts";
import type { SourceChoice } from "./source-address.ts";
import type { RouteRequest, RouteResult } from "./fib.ts";
import type { IpsecPolicy } from "../../linux/xfrm.ts";
import type { NextHop, Route } from "../../linux/route/route.ts";
import { NodeView } from "./view.ts";
import { present } from "../../present.ts";

/** A namespace prepared for many predictions. */
export interface PreparedNamespace {
  readonly view: NodeView;
  readonly hooks: HookTable;
}

const worlds = new WeakMap<object, PreparedNamespace>();

/** Prepares a namespace of a snapshot; the same one only once. */
export function preparedNamespace(state: NonNullable<PodState["state"]>): PreparedNamespace {
  let world = worlds.get(state);
  if (world === undefined) {
    const tables = [...(state.ruleset?.tables ?? []), ...state.legacy];
    world = { view: new NodeView(state), hooks: new HookTable(tables) };
    worlds.set(state, world);
  }
  return world;
}

export class Walk {
  readonly steps: PathStep[] = [];
  readonly stops: Stop[] = [];
  readonly blindSpots: BlindSpot[] = [];
  readonly node: PreparedNamespace;
  readonly pod: PreparedNamespace | undefined;
  direction: Direction = "out";
  /** A service of the node led the packet back to the pod that sent it. */
  hairpin = false;

  sent: Tuple | undefined;
  left: Tuple | undefined;
  end: End = "unknown";
  localEnd: LocalEnd | undefined;
  answerLink: Link | undefined;
  source: SourceChoice | undefined;
  untrackedBy: Decision | undefined;
  balancedBy: VirtualService | undefined;
  encryptedBy: IpsecPolicy | undefined;
  escaped: IpsecPolicy | undefined;
  zonedBy: Decision | undefined;
  redirected: Prediction["redirected"];
  routed: Prediction["routed"];
  marks: Prediction["marks"];
  /** Routes with several next hops that the packet met on its way out. */
  readonly forks: Fork[] = [];
  podLink: Link | undefined;
  hostLink: Link | undefined;
  inLink: Link | undefined;
  outLink: Link | undefined;
  /** Where outLink is a bridge: its port by which the frames go. */
  outPort: Link | undefined;
  gateway: string | undefined;
  translatedBy: Decision | undefined;
  atLink: AtLink | undefined;
  translatedToOneOf: string | undefined;
  pathMtu: number | undefined;
  podFlow: Flow | undefined;
  nodeFlow: Flow | undefined;

  constructor(
    readonly snapshot: Snapshot,
    readonly podState: PodState,
    readonly target: Target,
    readonly oracle: Oracle,
    /** Which next hop of a multipath route is taken; the first where nothing is said. */
    readonly choices: ReadonlyMap<Route, number> = new Map(),
  ) {
    this.node = preparedNamespace(snapshot.node);
    this.pod = podState.state === undefined ? undefined : preparedNamespace(podState.state);
    this.#noteUnread("node", "node", "the node's rules");
    this.#noteUnread("pod", podState.name, `${podState.name}'s rules`);
  }

  /** Rules that are there and could not be read may do anything. A kernel without nf_tables has none. */
  #noteUnread(place: Side, where: string, what: string): void {
    const gap = this.snapshot.missing.find((one) => one.where === where && one.what === "ruleset");
    if (gap === undefined || gap.why.endsWith("has no nf_tables")) return;
    this.blindSpots.push({ place, text: `${what} (${gap.why})`, couldTranslate: place === "node" });
  }

  /**
   * Asks a namespace's routing, and notes where there are several ways.
   * @param authority `tables`: without the kernel's own answers
   */
  route(place: Side, request: RouteRequest, authority?: "tables"): RouteResult {
    const { fib, sysctl } = viewOf(place === "node" ? this.node : this.pod!);
    const asked: RouteRequest = {
      ...request,
      choose: (hops, route) => hops[this.choices.get(route) ?? 0] ?? hops[0]!,
    };
    const result = authority === "tables" ? fib.predict(asked) : fib.lookup(asked);
    if (result.kind !== "route" || result.hops === undefined || result.route === undefined) return result;
    const { hops, route } = result;
    if (this.direction === "out" && !this.forks.some((one) => one.route === route)) {
      // By addresses alone (policy 0) the kernel sends every packet of these two the same way, and has named it.
      const named =
        place === "node" && route.family === 4 && (sysctl("net.ipv4.fib_multipath_hash_policy") ?? 0) === 0
          ? fib.recordedHop(request, result)
          : undefined;
      const taken = hops.findIndex(
        (hop) => hop.interface === named?.interface && hop.gateway === named?.gateway,
      );
      this.forks.push({ place, route, hops, taken: taken < 0 ? undefined : taken });
    }
    return result;
  }

  machine(place: Side, packet: Packet, answered?: Flow): Machine {
    const world = place === "node" ? this.node : this.pod!;
    return new Machine(world.view, this.oracle, { ...packet, state: "invalid" }, undefined, "", answered);
  }

  stop(stop: DirectionlessStop): void {
    this.stops.push({ ...stop, direction: this.direction });
  }

  step(place: Side, at: string, text: string, packet: Packet, by?: Decision): void {
    this.steps.push(
      present({
        place,
        direction: this.direction,
        at,
        text,
        tuple: tupleOf(packet),
        sourcePorts: packet.sourcePortFrom,
        by,
      }),
    );
  }

  /** Sends the machine's packet through a hook and notes who decided. Goes on behind a drop. */
  hook(place: Side, machine: Machine, hook: InetHook, until?: number): HookResult {
    const { hooks } = place === "node" ? this.node : this.pod!;
    const result = runHook(machine, hooks, hook, until);
    this.#noteHook(place, machine, hook, result, machine.packet.family === 4 ? "ip" : "ip6");
    return result;
  }

  /** The netdev chains and the programs of one device. */
  device(place: Side, machine: Machine, hook: "ingress" | "egress", link: Link): void {
    const world = place === "node" ? this.node : this.pod!;
    this.#noteHook(place, machine, hook, runDeviceHook(machine, world.hooks, hook, link.name), "netdev");
    for (const program of world.view.state.programs) {
      if (program.link !== link.name || !sees(program.hook, hook) || isOurs(world.view.state, program))
        continue;
      const text = programText(program);
      if (this.blindSpots.some((spot) => spot.text === text)) continue;
      this.blindSpots.push({ place, text, couldTranslate: hook === "egress" && place === "node" });
    }
  }

  /** What a hook made of neighbour discovery at a link. */
  noteDiscovery(
    place: Side,
    link: Link,
    machine: Machine,
    { stops }: HookResult,
    family: string,
    port?: Link,
  ): void {
    const { hook } = machine;
    for (const stop of stops) {
      this.stop({
        kind: "filtered",
        place,
        stop,
        hook,
        family,
        about: "neighbour-discovery",
        link,
        ...(port === undefined ? {} : { port }),
      });
    }
  }

  /** @param port where it is one that leads out of this node */
  noteBridge(machine: Machine, hook: string, result: HookResult, port?: Link): void {
    this.#noteHook("node", machine, hook, result, "bridge", port);
  }

  #noteHook(
    place: Side,
    machine: Machine,
    hook: string,
    result: HookResult,
    family: string,
    port?: Link,
  ): void {
    if (result.translated !== undefined) {
      this.step(place, hook, "translated", machine.packet, result.translated);
    }
    const at = port === undefined ? {} : { port };
    for (const stop of result.stops) this.stop({ kind: "filtered", place, stop, hook, family, ...at });
  }
}

/** A multipath route on the way. */
export interface Fork {
  readonly place: Side;
  readonly route: Route;
  readonly hops: readonly NextHop[];
  /** Index of the one that the kernel takes between these two addresses; undefined when other things count as well. */
  readonly taken: number | undefined;
}

function viewOf(world: PreparedNamespace): {
  fib: NodeView["fib"];
  sysctl: (name: string) => number | undefined;
} {
  return { fib: world.view.fib, sysctl: (name) => world.view.sysctl(name) };
}

// Distributed over the union, so that each kind keeps its own fields.
type DirectionlessStop = Stop extends infer S ? (S extends Stop ? Omit<S, "direction"> : never) : never;

/** Our own programs are followed (at-links.ts). */
function isOurs({ linkTranslation }: NamespaceState, { name }: ProgramState): boolean {
  return linkTranslation !== undefined && productOfProgram(name ?? "") === "wayout";
}

/** XDP sees what comes in, tc and tcx say which side. */
function sees(programHook: string, hook: "ingress" | "egress"): boolean {
  return programHook === "xdp" ? hook === "ingress" : programHook.endsWith(hook);
}
