/**
 * Keeps the short way of the eBPF programs open while nobody would be left out by it: looks at everything, grants it for a
 * second, and again and again. What is announced by the kernel makes it void at once, without the event loop (a thread
 * counts, the programs compare); it is granted again after another look.
 */
import { messageOf } from "../error.ts";
import { Conntrack } from "../kernel/conntrack/conntrack.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { NETLINK_NETFILTER, NETLINK_ROUTE, NETLINK_XFRM } from "../kernel/netlink/transport.ts";
import { TurnThread } from "../kernel/netlink/turn-thread.ts";
import { RTNLGRP } from "../kernel/route/watch.ts";
import { NFNLGRP_NFTABLES } from "../linux/nftables/messages.ts";
import { XFRMNLGRP_POLICY } from "../linux/xfrm.ts";
import { FastPath, knownConnections, lookAtFastPath, type FastPathLook } from "../nat/backends/fast-path.ts";
import type { AgentLog } from "./log.ts";

/** Less than a third of a lease's time. */
const GRANT_EVERY_MS = 250;
/** What nobody announces (programs at a link, settings) is looked for this often. */
const LOOK_EVERY_MS = 1_000;

/** What the thread reads again and again. */
const UNANNOUNCED = [
  "/proc/thread-self/net/ip_tables_names",
  "/proc/thread-self/net/ip6_tables_names",
  "/proc/sys/net/bridge/bridge-nf-call-iptables",
  "/proc/sys/net/bridge/bridge-nf-call-ip6tables",
];

type Outcome = Pick<FastPathLook, "obstacles" | "asksRules">;

const NO_PROGRAMS = because("the eBPF programs of this version are not in force");

function because(obstacle: string): Outcome {
  return { obstacles: [obstacle], asksRules: false };
}

/** Set up when it is first wanted, and taken down when it is not any more. */
class Standing {
  readonly #thread: TurnThread;
  /** With what it was found clear: until another turn, or for LOOK_EVERY_MS. */
  #found: { readonly turn: bigint; readonly at: number; readonly look: FastPathLook } | undefined;

  constructor(
    private readonly node: NetworkNamespace,
    private readonly path: FastPath,
    changed: () => void,
  ) {
    const { links, addresses, routes, rules, settings, trafficControl } = RTNLGRP;
    this.#thread = new TurnThread(
      node,
      path.lease.turnAddress,
      [
        { protocol: NETLINK_NETFILTER, groups: [NFNLGRP_NFTABLES] },
        {
          protocol: NETLINK_ROUTE,
          groups: [...links, ...addresses, ...routes, ...rules, ...settings, ...trafficControl],
        },
        { protocol: NETLINK_XFRM, groups: [XFRMNLGRP_POLICY] },
      ],
      UNANNOUNCED,
      changed,
    );
  }

  /** Grants it, if it may be. Returns why not; undefined while nothing can be said yet. */
  keep(): Outcome | undefined {
    if (!this.#thread.counts) return undefined;
    const { lease } = this.path;
    const found = this.#found;
    if (found === undefined || found.turn !== lease.turn || performance.now() - found.at > LOOK_EVERY_MS) {
      const turn = lease.turn;
      const look = lookAtFastPath(this.node, this.path.intents);
      if (look.obstacles.length === 0) this.path.attach(look);
      this.#found = { turn, at: performance.now(), look };
    }
    const { turn, look } = this.#found!;
    if (look.obstacles.length > 0) lease.refuse();
    else
      lease.grant(
        turn,
        look.uplinks.map(({ index }) => index),
      );
    return look;
  }

  /** Whether it is as it was opened for. */
  get isCurrent(): boolean {
    return this.path.isCurrent;
  }

  get isHeldOff(): boolean {
    return this.path.lease.isHeldOff;
  }

  async close(): Promise<void> {
    this.path.lease.revoke();
    // The thread counts in memory that goes with the path.
    await this.#thread.close();
    this.path[Symbol.dispose]();
  }
}

export class FastPathKeeper {
  #standing: Standing | undefined;
  #closing: Promise<void> = Promise.resolve();
  readonly #timer: ReturnType<typeof setInterval>;
  #soon: ReturnType<typeof setTimeout> | undefined;
  #told: string | undefined;
  /** Whether there may be flows that connection tracking, where somebody asks it, would have to be told of. */
  #goesUnseen = false;

  /** @param isWanted what the policy says now */
  constructor(
    private readonly node: NetworkNamespace,
    private readonly isWanted: () => boolean,
    private readonly log: AgentLog,
  ) {
    this.#timer = setInterval(() => this.#keep(), GRANT_EVERY_MS);
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    clearTimeout(this.#soon);
    this.#close();
    await this.#closing;
  }

  #keep(): void {
    try {
      const outcome = this.isWanted() ? this.#kept() : this.#unwanted();
      if (outcome !== undefined) this.#tell(outcome);
    } catch (error) {
      this.#close();
      this.#tell(because(messageOf(error)));
    }
  }

  #kept(): Outcome | undefined {
    if (this.#standing?.isCurrent === false) this.#close();
    if (this.#standing === undefined) {
      const path = FastPath.open(this.node);
      if (path === undefined) return NO_PROGRAMS;
      this.#standing = new Standing(this.node, path, () => this.#changed());
    }
    return this.#standing.keep();
  }

  #unwanted(): undefined {
    this.#close();
    this.#told = undefined;
  }

  /** The lease is void already. Many come at once. */
  #changed(): void {
    this.#soon ??= setTimeout(() => {
      this.#soon = undefined;
      if (this.#standing !== undefined) this.#keep();
    }, 0);
  }

  #close(): void {
    const standing = this.#standing;
    if (standing === undefined) return;
    this.#standing = undefined;
    this.#closing = Promise.all([this.#closing, standing.close()]).then(() => undefined);
  }

  /** Told when it is another than before. */
  #tell({ obstacles, asksRules }: Outcome): void {
    const isOpen = obstacles.length === 0;
    if (isOpen) this.#goesUnseen = true;
    // A trace has rules, too, which ask for nothing but itself.
    else if (this.#goesUnseen && asksRules && this.#standing?.isHeldOff !== true) {
      this.#goesUnseen = false;
      this.#makeKnown();
    }
    const text = obstacles.join("; ");
    if (text === this.#told) return;
    this.#told = text;
    this.log.write("info", isOpen ? "fast-path-on" : "fast-path-off", isOpen ? {} : { message: text });
  }

  /**
   * Who asks connection tracking from now on asks about flows that it has not seen the beginning of: without an entry, the
   * answers to a pod were somebody's who begins from outside.
   */
  #makeKnown(): void {
    try {
      using conntrack = Conntrack.open(this.node);
      const count = conntrack.add(knownConnections(this.node));
      if (count > 0) this.log.write("info", "fast-path-flows", { known: count });
    } catch (error) {
      this.log.write("error", "fast-path-flows", { message: messageOf(error) });
    }
  }
}
