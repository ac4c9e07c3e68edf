/**
 * The programs of the short way (program/fast.h), attached for as long as this process lives: nobody gives them a name, and
 * who is killed takes them along.
 */
import { closeFile } from "../../../kernel/file.ts";
import { attachToLink, isGone } from "../../../kernel/bpf/link.ts";
import { BpfMap } from "../../../kernel/bpf/map.ts";
import type { NetworkNamespace } from "../../../kernel/namespace.ts";
import { parseBpfObject } from "../../../linux/bpf/object.ts";
import { intentsOfClaims } from "../../claim.ts";
import type { NatIntent } from "../../intent.ts";
import { holdsPrograms, namespaceDirectory } from "./bpf-directory.ts";
import type { FastPathLook } from "./fast-path-look.ts";
import { neighbourKey, numberKey } from "./layout.ts";
import { Lease } from "./lease.ts";
import { LoadedPrograms } from "./loaded-programs.ts";
import { NatMaps } from "./maps.ts";
import { NAT_PROGRAMS } from "./program/nat.bpf.ts";

/** Maps that may be replaced by others while we stand: with other room for flows, or by another version. */
const SHARED_MAPS = ["flows", "places", "counts", "leases", "veths"] as const;

interface Attachment {
  readonly which: "arrives" | "leaves";
  readonly index: number;
  readonly place: "first" | "last";
}

export class FastPath implements Disposable {
  readonly lease: Lease;
  readonly #programs: LoadedPrograms;
  readonly #attached = new Map<string, number>();
  readonly #ids: ReadonlyMap<string, number>;
  #veths = new Map<string, number>();
  #isOver = false;

  private constructor(
    private readonly namespace: NetworkNamespace,
    private readonly maps: NatMaps,
  ) {
    const object = parseBpfObject(Uint8Array.fromBase64(NAT_PROGRAMS));
    this.#programs = new LoadedPrograms(object, maps);
    this.lease = new Lease(maps.get("leases"));
    this.#ids = new Map(SHARED_MAPS.map((name) => [name, maps.get(name).id]));
    const veths = maps.get("veths");
    for (const key of veths.keys()) veths.delete(key);
  }

  /** undefined where the programs at the links are not those of this version. */
  static open(namespace: NetworkNamespace): FastPath | undefined {
    const directory = namespaceDirectory(namespace);
    if (directory === undefined || !holdsPrograms(namespace)) return undefined;
    const { maps, missing } = NatMaps.open(directory, parseBpfObject(Uint8Array.fromBase64(NAT_PROGRAMS)));
    if (missing.length === 0) return new FastPath(namespace, maps);
    maps[Symbol.dispose]();
    return undefined;
  }

  /** What all owners want of the programs. */
  get intents(): readonly NatIntent[] {
    return intentsOfClaims(this.maps.claims ?? []);
  }

  /** Whether the programs at the links still use the maps that ours use. */
  get isCurrent(): boolean {
    return SHARED_MAPS.every((name) => {
      using map = BpfMap.pinned(`${this.maps.directory}/${name}`, name);
      return map !== undefined && map.id === this.#ids.get(name);
    });
  }

  /** Attaches what is missing, and lets go of what is not wanted any more. */
  attach({ uplinks, podLinks, veths }: Pick<FastPathLook, "uplinks" | "podLinks" | "veths">): void {
    const wanted = new Map<string, Attachment>();
    // What arrives has to be translated back first; what leaves is to be nobody's before.
    for (const { index } of uplinks)
      wanted.set(`arrives ${index}`, { which: "arrives", index, place: "last" });
    for (const { index } of podLinks)
      wanted.set(`leaves ${index}`, { which: "leaves", index, place: "first" });
    for (const [key, fd] of this.#attached) {
      if (wanted.has(key)) continue;
      closeFile(fd);
      this.#attached.delete(key);
    }
    for (const [key, { which, index, place }] of wanted) {
      if (this.#attached.has(key)) continue;
      try {
        const program = this.#programs.fastPath(which);
        this.#attached.set(
          key,
          this.namespace.run(() => attachToLink(program, index, "ingress", place)),
        );
      } catch (error) {
        // It went while we were at it.
        if (!isGone(error)) throw error;
      }
    }
    this.#write(veths);
  }

  #write(veths: FastPathLook["veths"]): void {
    const map = this.maps.get("veths");
    const wanted = new Map(
      veths.map(({ link, mac, veth }) => [neighbourKey(link, mac).toHex(), veth] as const),
    );
    for (const key of this.#veths.keys()) if (!wanted.has(key)) map.delete(Uint8Array.fromHex(key));
    for (const [key, veth] of wanted)
      if (this.#veths.get(key) !== veth) map.set(Uint8Array.fromHex(key), numberKey(veth));
    this.#veths = wanted;
  }

  /** Back to the long way at once; the programs go behind it. */
  [Symbol.dispose](): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.lease.revoke();
    for (const fd of this.#attached.values()) closeFile(fd);
    this.lease[Symbol.dispose]();
    this.#programs[Symbol.dispose]();
    this.maps[Symbol.dispose]();
  }
}
