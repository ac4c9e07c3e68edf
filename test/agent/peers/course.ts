/** One node with an agent, transfers that last, and peers that act on it in turn; what came of it in figures. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AttachmentStore } from "../../../src/attachment/store.ts";
import { ADMISSION_DOORS } from "../../../src/admission/doors.ts";
import type { StoredEvent } from "../../../src/agent/journal/journal.ts";
import { productRoot } from "../../../scripts/products.ts";
import type { NetworkNamespace } from "../../../src/kernel/namespace.ts";
import { freshName, SERVER, UPLINK, wayout, wayoutJson, world } from "../../attachment/world.ts";
import { HouseOfProducts, prepareUfw } from "../../support/products.ts";
import { afterThisTest } from "../../support/teardown.ts";
import { serveTransfers, Transfers } from "../../support/transfers.ts";
import { isRealRoot } from "../../support/witness.ts";
import { RunningAgent } from "../running-agent.ts";
import type { Peer, Scene } from "./peers.ts";

const MOST_WORD_MS = 3_000;
const SUBNET = "10.213.0.0/24";

export interface CourseOptions {
  readonly admit: boolean;
  readonly transfers: number;
  readonly products: boolean;
}

export interface Outcome {
  readonly peer: string;
  /** Until a new connection worked after the peer's last word; undefined where nothing but its door can mend it. */
  readonly worksAgainMs?: number;
  /** Until it was told that, and why, the pod has no way out. */
  readonly toldMs?: number;
  /** Of the transfers that last. */
  readonly cut: number;
  /** Until each of the others had heard something again. */
  readonly heardMs: number;
  /** Who is named in the journal for the repair; where nothing of ours is hit, for the change of rules. */
  readonly named: readonly string[];
}

export class Course {
  private constructor(
    readonly scene: Scene,
    private readonly options: CourseOptions,
    private readonly agent: RunningAgent,
    private readonly pod: Transfers,
    private readonly podName: string,
    private readonly journal: string,
  ) {}

  static async begin(options: CourseOptions): Promise<Course> {
    const { node, outside } = world();
    const pod = freshName();
    await wayout(node, "attach", pod, "--create", "--subnet", SUBNET);
    const directory = mkdtempSync(join(tmpdir(), "wayout-peers-"));
    afterThisTest(() => rmSync(directory, { recursive: true, force: true }));
    const policy = join(directory, "policy.yaml");
    const doors = ADMISSION_DOORS.filter((door) => options.products || !/firewalld|ufw/.test(door));
    writeFileSync(
      policy,
      `sources: [${SUBNET}]\n${options.admit ? `admit: [${doors.filter((door) => door !== "iptables-forward").join(", ")}]\n` : ""}`,
    );
    const house = options.products ? await houseOn(node) : undefined;
    const journal = join(directory, "journal.db");
    const agent = await RunningAgent.within(
      house?.wrapper ?? [],
      node,
      "--look",
      "--config",
      policy,
      "--journal",
      journal,
    );
    await agent.says("listening");
    serveTransfers(outside);
    const { networks, attachments } = new AttachmentStore(node).read();
    const scene = { node, gateway: networks[0]!.gateways[0]!, port: attachments[0]!.hostInterface, house };
    return new Course(
      scene,
      options,
      agent,
      await Transfers.of(pod, SERVER.v4, options.transfers),
      pod,
      journal,
    );
  }

  async play(peer: Peer): Promise<Outcome> {
    const { scene, options, agent } = this;
    const since = new Date().toISOString();
    await peer.acts(scene);
    const ended = performance.now();
    const isShut = peer.door !== undefined && !options.admit;
    const outcome: { worksAgainMs?: number; toldMs?: number } = {};
    if (isShut) {
      await agent.says("way-out", { level: "warn", pod: this.podName });
      outcome.toldMs = Math.round(performance.now() - ended);
    } else {
      const { ms, seenAs } = await this.pod.ask<{ ms: number; seenAs: string }>("new");
      if (seenAs !== UPLINK.v4) throw new Error(`after ${peer.name} the pod is seen as ${seenAs} (${ms} ms)`);
      outcome.worksAgainMs = ms;
    }
    if (peer.object !== undefined) await agent.says("repaired", { object: peer.object(scene) });
    await peer.leaves?.(scene);
    // What it left may have to be repaired as well; and what was told of it is told before the next one's turn.
    const { seenAs } = await this.pod.ask<{ seenAs: string }>("new");
    if (seenAs !== UPLINK.v4) throw new Error(`${peer.name} has gone, and the pod is seen as ${seenAs}`);
    const lasting = await this.pod.ask<{ cut: number; heardMs: number }>(
      peer.cuts === true ? "renew" : "state",
    );
    return { peer: peer.name, ...outcome, ...lasting, named: await this.#named(since, peer.object?.(scene)) };
  }

  async end(): Promise<void> {
    await this.agent.stop();
  }

  /** On a busy machine the word of who did it comes late. */
  async #named(since: string, repaired: string | undefined): Promise<string[]> {
    const deadline = performance.now() + MOST_WORD_MS;
    for (;;) {
      const named = await this.#namedUpToNow(since, repaired);
      if (named.length > 0 || performance.now() > deadline) return named;
      await Bun.sleep(100);
    }
  }

  async #namedUpToNow(since: string, repaired: string | undefined): Promise<string[]> {
    const events = await wayoutJson<StoredEvent[]>(
      this.scene.node,
      "history",
      "--since",
      since,
      "--journal",
      this.journal,
    );
    const found = events.filter(({ kind, object }) =>
      repaired === undefined ? kind === "rules" : kind === "repair" && object === repaired,
    );
    return [...new Set(found.map(({ by }) => by?.process ?? "unknown"))];
  }
}

async function houseOn(node: NetworkNamespace): Promise<HouseOfProducts | undefined> {
  if (!isRealRoot || productRoot("ufw") === undefined || productRoot("firewalld") === undefined)
    return undefined;
  const house = await HouseOfProducts.of(node, "firewalld", "ufw");
  prepareUfw(house);
  return house;
}
