/**
 * Which attachments of a network are left over. A runtime that calls GC knows that; `wayout cni gc` must find it out, and
 * takes nothing on a guess: a pod whose interface goes has no second one.
 */
import { statSync } from "node:fs";
import { join } from "node:path";
import type { LinkRtnetlink } from "../kernel/route/link-rtnetlink.ts";
import type { LinkState } from "../linux/route/link-state.ts";
import type { AddressOwner } from "../ipam/assignment.ts";
import { DEFAULT_DATA_DIRECTORY } from "../ipam/configuration.ts";
import type { Reservation } from "../ipam/owner-index.ts";
import { AddressStore } from "../ipam/store.ts";
import { cacheFileName, type CachedAttachment, type Caches } from "../pods/cni-cache.ts";
import { namespaceOf } from "../pods/pod-addresses.ts";
import { NamespaceHolders } from "../pods/namespace-holders.ts";
import { readBridgeName } from "./configuration.ts";
import type { ConfiguredNetwork } from "./configured-networks.ts";
import { Fields } from "../ipam/fields.ts";
import { readLabel } from "../naming/names.ts";
import { linksOf } from "./network-state.ts";

/** An ADD may be under way: its address is reserved, and the runtime writes its cache when all plugins are done. */
const ADD_UNDER_WAY_MS = 120_000;
/** A link that no runtime remembers is left alone for as long: runtimes write, restart and repair their caches. */
const FORGOTTEN_MS = 600_000;

/** Something that is not in use for all we know, and stays because that is not proven. */
export interface Unproven {
  /** `10.42.0.7 of web eth0`. */
  readonly what: string;
  readonly why: string;
}

export interface LeftOver {
  /** In use, or not proven to be left over. */
  readonly kept: readonly AddressOwner[];
  /** Host ends that stay though nobody can say whose they are. */
  readonly keptLinks: readonly string[];
  readonly doubts: readonly Unproven[];
  /** Why nothing of this network can be judged. */
  readonly refusal?: string;
}

/**
 * @param caches what runtimes remember, of all networks
 * @param now milliseconds since the epoch
 */
export function judgeAttachments(
  network: ConfiguredNetwork,
  node: LinkRtnetlink,
  caches: Caches,
  now: number,
): LeftOver {
  using scene = new Scene(network, node, caches, now);
  return scene.judge();
}

/** The label says whose a link is; one that was cut, or is of another hand, does not. */
interface OwnedLink {
  readonly link: LinkState;
  readonly owner: AddressOwner | undefined;
}

class Scene implements Disposable {
  readonly #cached: readonly CachedAttachment[];
  readonly #links: readonly OwnedLink[];
  readonly #reservations: readonly Reservation[];
  readonly #holders: NamespaceHolders;
  readonly #kept: AddressOwner[] = [];
  readonly #keptLinks: string[] = [];
  readonly #doubts: Unproven[] = [];

  constructor(
    private readonly network: ConfiguredNetwork,
    private readonly node: LinkRtnetlink,
    private readonly caches: Caches,
    private readonly now: number,
  ) {
    this.#cached = caches.attachments.filter((one) => one.network === network.network);
    this.#links = linksOf(network.network, node).map((link) => ({
      link,
      owner: readLabel(link.alias ?? "")?.owner,
    }));
    this.#reservations = reservationsIn(this.#directory);
    this.#holders = new NamespaceHolders(node);
  }

  judge(): LeftOver {
    const refusal = this.#refusal();
    if (refusal !== undefined) return { kept: [], keptLinks: [], doubts: [], refusal };
    const hidden = this.#isHidden();
    for (const one of this.#links) this.#judgeLink(one, hidden);
    for (const { owner } of this.#reservations) {
      if (!this.#links.some((link) => isSame(owner, link.owner))) this.#judgeReservation(owner);
    }
    return { kept: this.#kept, keptLinks: this.#keptLinks, doubts: this.#doubts };
  }

  [Symbol.dispose](): void {
    this.#holders[Symbol.dispose]();
  }

  #refusal(): string | undefined {
    const settled = this.#links.filter(({ owner }) => !this.#isYoung(owner));
    if (settled.length === 0 || this.#cached.length > 0) return undefined;
    const pods = settled.length === 1 ? "a pod is" : `${settled.length} pods are`;
    return `${pods} attached, and no runtime's cache was found that knows any of them`;
  }

  /** Whether namespaces of pods that are known to live are not to be seen from here, as in most containers. */
  #isHidden(): boolean {
    return this.#links.some(
      ({ link, owner }) => this.#remembers(owner) && this.#holders.of(link) === undefined,
    );
  }

  #judgeLink({ link, owner }: OwnedLink, hidden: boolean): void {
    const isInUse = this.#remembers(owner) || this.#isYoung(owner);
    const why = isInUse ? undefined : this.#doubtAbout(link, owner, hidden);
    if (!isInUse && why === undefined) return;
    if (owner === undefined) this.#keptLinks.push(link.name);
    else this.#kept.push(owner);
    if (why !== undefined) this.#doubts.push({ what: `link ${link.name} (${link.alias ?? ""})`, why });
  }

  /** Why a link that no runtime remembers may still be in use; undefined when everything speaks against it. */
  #doubtAbout(link: LinkState, owner: AddressOwner | undefined, hidden: boolean): string | undefined {
    const unread = owner === undefined ? undefined : this.#unreadEntry(owner);
    if (unread !== undefined) return unread;
    if (hidden) return "the namespaces of this node's pods are not visible from here";
    const holder = this.#holders.of(link);
    if (holder !== undefined) return `its namespace is there: ${holder}`;
    const age = owner === undefined ? undefined : this.#ageOf(owner);
    if (age === undefined) return "its age is unknown";
    return age < FORGOTTEN_MS ? "it is younger than ten minutes" : undefined;
  }

  /** A reservation whose link is not there, or was made by another plugin and says nothing. */
  #judgeReservation(owner: AddressOwner): void {
    const addresses = this.#reservations.find((one) => one.owner === owner)!.addresses;
    const what = `${addresses.join(" and ")} of ${owner.container} ${owner.interfaceName}`.trimEnd();
    if (this.#isYoung(owner) || this.#livesElsewhere(owner)) {
      this.#kept.push(owner);
      return;
    }
    if (this.#remembers(owner)) return;
    const unread = this.#unreadEntry(owner);
    if (unread !== undefined) {
      this.#kept.push(owner);
      this.#doubts.push({ what, why: unread });
      return;
    }
    const holder = addresses
      .map((address) => this.#holders.ofAddress(address))
      .find((one) => one !== undefined);
    const stranger = holder === undefined ? this.#unknownPort() : undefined;
    if (holder === undefined && stranger === undefined) return;
    this.#kept.push(owner);
    const why =
      holder === undefined
        ? `${stranger} leads to a pod that is not visible from here and may have it`
        : `it is in use: ${holder}`;
    this.#doubts.push({ what, why });
  }

  /** A runtime remembers it, and its namespace, or the host end that its plugin reported, is there. */
  #livesElsewhere(owner: AddressOwner): boolean {
    return this.#entriesOf(owner).some(
      (entry) =>
        namespaceOf(entry) !== undefined ||
        entry.hostInterfaces.some((name) => this.node.linkState(name)?.kind === "veth"),
    );
  }

  /** A port of the network's bridge that says nothing of itself, and leads to where nobody can look. */
  #unknownPort(): string | undefined {
    const bridge = this.node.linkState(readBridgeName(Fields.of(this.network.plugin)));
    if (bridge === undefined) return undefined;
    const port = this.node
      .linkStates()
      .find(
        (link) =>
          link.master === bridge.index &&
          link.kind === "veth" &&
          link.alias === undefined &&
          link.linkNamespaceId !== undefined &&
          this.#holders.of(link) === undefined,
      );
    return port?.name;
  }

  #remembers(owner: AddressOwner | undefined): boolean {
    return owner !== undefined && this.#entriesOf(owner).length > 0;
  }

  /** What a runtime remembers without our understanding it: damaged, or written before libcni 0.8. */
  #unreadEntry({ container, interfaceName }: AddressOwner): string | undefined {
    const wanted = cacheFileName(this.network.network, container, interfaceName);
    for (const [name, path] of this.caches.files) {
      const isMeant = interfaceName === "" ? name.startsWith(wanted) : name === wanted;
      if (isMeant) return `its runtime remembers it, in words that are not understood: ${path}`;
    }
    return undefined;
  }

  #entriesOf(owner: AddressOwner): CachedAttachment[] {
    return this.#cached.filter(
      ({ containerId, interface: name }) =>
        containerId === owner.container && (owner.interfaceName === "" || owner.interfaceName === name),
    );
  }

  #isYoung(owner: AddressOwner | undefined): boolean {
    const age = owner === undefined ? undefined : this.#ageOf(owner);
    return age !== undefined && age < ADD_UNDER_WAY_MS;
  }

  /** Since its youngest address was reserved; undefined when none is. */
  #ageOf(owner: AddressOwner): number | undefined {
    const addresses = this.#reservations
      .filter((one) => isSame(one.owner, owner))
      .flatMap((one) => one.addresses);
    const times = addresses.flatMap((address) => modifiedAt(join(this.#directory, address)));
    return times.length === 0 ? undefined : this.now - Math.max(...times);
  }

  get #directory(): string {
    const ipam = this.network.plugin["ipam"] as { readonly dataDir?: string } | undefined;
    return join(ipam?.dataDir ?? DEFAULT_DATA_DIRECTORY, this.network.network);
  }
}

/** An old reservation names the container only. */
function isSame(reserved: AddressOwner, { container, interfaceName }: Partial<AddressOwner> = {}): boolean {
  if (reserved.container !== container) return false;
  return reserved.interfaceName === "" || reserved.interfaceName === interfaceName;
}

function reservationsIn(directory: string): readonly Reservation[] {
  using store = AddressStore.openExisting(directory);
  return store?.reservations() ?? [];
}

function modifiedAt(path: string): number[] {
  try {
    return [statSync(path).mtimeMs];
  } catch {
    return [];
  }
}
