import { NetworkNamespace } from "../../../kernel/namespace.ts";
import { Rtnetlink } from "../../../kernel/route/rtnetlink.ts";
import { shaHex } from "../../../platform/bytes.ts";
import { parseBpfObject, type BpfObject } from "../../../linux/bpf/object.ts";
import {
  MISSING,
  THERE,
  type AppliedNat,
  type NatBackend,
  type NatDrift,
  type TrackedByBackend,
} from "../../backend.ts";
import { claimsOf, intentsOfClaims, translationText } from "../../claim.ts";
import { normalizeIntent, replacing, type NatIntent } from "../../intent.ts";
import { withNatLock, withNatLockToRemove } from "../../lock.ts";
import {
  attachAll,
  attachmentDrifts,
  detachAll,
  firstAddresses,
  linksOf,
  hookedLinksOf,
  type HookedLink,
} from "./attachments.ts";
import { holdsPrograms, namespaceDirectory, neededDirectory, removeDirectory } from "./bpf-directory.ts";
import { guardDrifts, removeGuard, writeGuard } from "./guard.ts";
import { beginMove, endMove, moveAll, mustMove, type OlderGeneration } from "./generations.ts";
import { LoadedPrograms } from "./loaded-programs.ts";
import { addressBytes, numberKey, pairKey } from "./layout.ts";
import { NatMaps } from "./maps.ts";
import { BASES, policyEntries, POLICY_MAPS, type Entry, type PolicyEntries } from "./policy.ts";
import { DROPS } from "./names.ts";
import { dropDrifts, writeDrops } from "../nftables/drop-table.ts";
import { NAT_PROGRAMS, NAT_PROGRAMS_HASH } from "./program/nat.bpf.ts";
import { endTracked, trackedByPrograms } from "./tracked.ts";
import { sweepDead } from "./sweep.ts";
import { reservedPorts } from "./reserved-ports.ts";
import { filteredBridges, refuseUnfit } from "./unfit.ts";
import { explained } from "./refusal.ts";

/** The first line of the claims: which programs are loaded. */
const PROGRAMS_LINE = `programs ${NAT_PROGRAMS_HASH}`;

/**
 * NAT by programs of ours (program/nat.bpf.c) at the egress and the ingress of the links by which packets leave. No rule
 * translates, and the kernel's connection tracking is not needed. Maps and attachments are found again below /sys/fs/bpf.
 */
export class EbpfNat implements NatBackend {
  readonly name = "ebpf";
  readonly connections: TrackedByBackend = {
    entries: () => trackedByPrograms(this.#namespace),
    end: (entries) => endTracked(this.#namespace, entries),
  };
  readonly #namespace: NetworkNamespace;
  readonly #owned: boolean;
  readonly #flows: number | undefined;
  #object: BpfObject | undefined;

  /** @param options.flows how many there is room for, when the maps are made; absent: by the machine's memory */
  constructor(options: { readonly namespace?: NetworkNamespace; readonly flows?: number } = {}) {
    this.#owned = options.namespace === undefined;
    this.#namespace = options.namespace ?? NetworkNamespace.current();
    this.#flows = options.flows;
  }

  apply(intent: NatIntent): AppliedNat {
    const wanted = normalizeIntent(intent);
    const doing = `writing the NAT policy of ${wanted.owner} for the eBPF programs`;
    return withNatLock(this.#namespace, doing, () =>
      explained(doing, () => {
        const drifts = this.#drifts(wanted, doing);
        if (drifts.length === 0) return { changed: false, drifts };
        const before = this.#claimed();
        this.#write(replacing(before, wanted), doing);
        return { changed: true, drifts, before };
      }),
    );
  }

  verify(intent: NatIntent): NatDrift[] {
    const doing = "comparing the eBPF programs and their policy";
    return explained(doing, () => this.#drifts(normalizeIntent(intent), doing));
  }

  remove(owner?: string): boolean {
    const doing = owner === undefined ? "removing our eBPF programs" : `removing the NAT policy of ${owner}`;
    return withNatLockToRemove(this.#namespace, doing, () =>
      explained(doing, () => {
        // Where the file system of their names has gone, so have the programs.
        if (!holdsPrograms(this.#namespace)) return removeGuard(this.#namespace);
        const before = this.#claimed();
        const left = owner === undefined ? [] : before.filter((one) => one.owner !== owner);
        if (owner !== undefined && left.length === before.length) return false;
        if (left.length === 0) this.#takeDown();
        else this.#write(left, doing);
        return true;
      }),
    );
  }

  intents(): NatIntent[] {
    return explained("reading the NAT policy of the eBPF programs", () => this.#claimed());
  }

  describe(intent: NatIntent): string {
    const wanted = normalizeIntent(intent);
    return replacing(this.#claimed(), wanted).map(textOf).join("\n");
  }

  [Symbol.dispose](): void {
    if (this.#owned) this.#namespace.close();
  }

  get #programs(): BpfObject {
    return (this.#object ??= parseBpfObject(Uint8Array.fromBase64(NAT_PROGRAMS)));
  }

  #claimed(): NatIntent[] {
    const directory = namespaceDirectory(this.#namespace);
    return directory === undefined ? [] : intentsOfClaims(NatMaps.claimsIn(directory) ?? []);
  }

  #drifts(wanted: NatIntent, doing: string): NatDrift[] {
    const directory = namespaceDirectory(this.#namespace);
    if (directory === undefined || !holdsPrograms(this.#namespace))
      return [{ object: "the eBPF programs of this namespace", expected: THERE, found: MISSING }];
    const { hooked, indexOf } = this.#standing(doing);
    const { maps, missing } = NatMaps.open(directory, this.#programs);
    using _maps = maps;
    const claims = maps.claims ?? [];
    const expected = this.#linesOf(replacing(intentsOfClaims(claims), wanted));
    const drifts = [
      ...missing.map((name) => ({
        object: `the map ${name} of the eBPF programs`,
        expected: THERE,
        found: MISSING,
      })),
      ...claimDrifts(expected, claims),
      ...attachmentDrifts(directory, hooked),
      ...(mustMove(directory, this.#flows)
        ? [
            {
              object: "the room for flows of the eBPF programs",
              expected: "as is wanted",
              found: "of another size",
            },
          ]
        : []),
    ];
    if (drifts.length > 0) return drifts;
    const base = maps.base;
    if (base === undefined)
      return [{ object: "the policy of the eBPF programs", expected: THERE, found: MISSING }];
    const intents = intentsOfClaims(claims);
    const entries = policyEntries(intents, base, indexOf);
    return [
      ...policyDrifts(maps, entries),
      ...(maps.hasSettings(entries, this.#namespace)
        ? []
        : [
            {
              object: "the timeouts of the eBPF programs",
              expected: "as net.netfilter.nf_conntrack_*_timeout* have them",
              found: "others",
            },
          ]),
      ...reservedDrifts(maps, reservedPorts(this.#namespace)),
      ...guardDrifts(this.#namespace, intents, indexesOf(hooked)),
      ...dropDrifts(this.#namespace, DROPS, intents, intents),
    ];
  }

  /** The links of now, and where programs are to stand at them. */
  #standing(doing: string) {
    const links = linksOf(this.#namespace);
    return {
      links,
      hooked: hookedLinksOf(links, doing, filteredBridges(this.#namespace, links)),
      indexOf: (name: string): number | undefined => links.find((one) => one.name === name)?.index,
    };
  }

  /** Policy first, then who obeys it: a program that finds none lets everything pass. */
  #write(intents: readonly NatIntent[], doing: string): void {
    const { links, hooked, indexOf } = this.#standing(doing);
    // What cannot be carried out is refused before anything is made.
    policyEntries(intents, BASES[0], indexOf);
    refuseUnfit(this.#namespace, intents, links, doing);
    const directory = neededDirectory(this.#namespace, doing);
    const isNew = !holdsPrograms(this.#namespace);
    try {
      const older = beginMove(directory, this.#programs, this.#flows, doing);
      const { maps, made } = NatMaps.make(directory, this.#programs, this.#flows);
      using _maps = maps;
      const renew = made || older !== undefined || maps.claims?.[0] !== PROGRAMS_LINE;
      maps.write((base) => policyEntries(intents, base, indexOf), this.#namespace);
      for (const { index, family, address } of firstAddresses(this.#namespace, hooked))
        maps.get("addresses").set(pairKey(index, family), addressBytes(address));
      maps.get("reserved").set(numberKey(0), reservedPorts(this.#namespace));
      this.#attach(maps, hooked, renew, older);
      writeGuard(this.#namespace, intents, indexesOf(hooked));
      writeDrops(this.#namespace, DROPS, intents);
      maps.claims = this.#linesOf(intents);
      if (isNew) sweepDead();
    } catch (error) {
      if (isNew) this.#takeDown();
      throw error;
    }
  }

  #attach(
    maps: NatMaps,
    hooked: readonly HookedLink[],
    renew: boolean,
    older: OlderGeneration | undefined,
  ): void {
    if (older !== undefined) {
      using moving = new LoadedPrograms(this.#programs, maps, older);
      attachAll(moving, this.#namespace, hooked, true);
      moveAll(moving, older);
    }
    using programs = new LoadedPrograms(this.#programs, maps);
    attachAll(programs, this.#namespace, hooked, renew);
    if (older !== undefined) endMove(maps.directory, older);
  }

  /**
   * The claims, and beside them what else was found when they were written. Connections that are seen as an address which has
   * gone since are to be ended, and so a change of addresses is a drift.
   */
  #linesOf(intents: readonly NatIntent[]): string[] {
    using route = Rtnetlink.open(this.#namespace);
    const addresses = route
      .addresses()
      .filter(({ scope }) => scope === "global")
      .map(({ interface: link, address }) => `${link} ${address}`);
    const hash = shaHex("sha256", addresses.sort().join("\n")).slice(0, 16);
    return [PROGRAMS_LINE, `addresses ${hash}`, ...intents.flatMap(claimsOf)];
  }

  #takeDown(): void {
    const directory = namespaceDirectory(this.#namespace);
    if (directory === undefined) return;
    detachAll(directory);
    removeDirectory(directory);
    removeGuard(this.#namespace);
    writeDrops(this.#namespace, DROPS, []);
  }
}

/** Of the links by which something leaves translated. */
function indexesOf(hooked: readonly HookedLink[]): number[] {
  return hooked.filter(({ sides }) => sides.includes("egress")).map(({ index }) => index);
}

function claimDrifts(expected: readonly string[], found: readonly string[]): NatDrift[] {
  const [have, want] = [new Set(found), new Set(expected)];
  return [
    ...expected
      .filter((line) => !have.has(line))
      .map((line) => ({ object: `'${line}' in the eBPF programs' policy`, expected: THERE, found: MISSING })),
    ...found
      .filter((line) => !want.has(line))
      .map((line) => ({ object: `'${line}' in the eBPF programs' policy`, expected: MISSING, found: THERE })),
  ];
}

function policyDrifts(maps: NatMaps, wanted: PolicyEntries): NatDrift[] {
  const base = maps.base!;
  const drifts: NatDrift[] = POLICY_MAPS.flatMap((map) => {
    const object = `the map ${map} of the eBPF programs`;
    const differ = difference(wanted.entries[map], maps.entries(map, base));
    return differ === 0
      ? []
      : [{ object, expected: "as it was written", found: `changed in ${differ} entries` }];
  });
  const written = wanted.translations.map(({ key }) => ({
    key,
    value: configured(maps.get("translations").get(key)),
  }));
  const differ = difference(
    wanted.translations.map(({ key, value }) => ({ key, value: configured(value) })),
    written,
  );
  if (differ > 0)
    drifts.push({
      object: "the map translations of the eBPF programs",
      expected: "as it was written",
      found: `changed in ${differ} entries`,
    });
  return drifts;
}

function reservedDrifts(maps: NatMaps, wanted: Uint8Array): NatDrift[] {
  const found = maps.get("reserved").get(numberKey(0)) ?? new Uint8Array(0);
  if (found.toHex() === wanted.toHex()) return [];
  const object = "the map reserved of the eBPF programs";
  return [{ object, expected: "as net.ipv4.ip_local_reserved_ports has it", found: "another" }];
}

/** A translation without the number of its flows, which the programs count in it. */
function configured(value: Uint8Array | undefined): Uint8Array {
  return value?.slice(0, 40) ?? new Uint8Array(0);
}

function difference(a: readonly Entry[], b: readonly Entry[]): number {
  const text = ({ key, value }: Entry): string => `${key.toHex()} ${value.toHex()}`;
  const [left, right] = [new Set(a.map(text)), new Set(b.map(text))];
  return left.difference(right).size + right.difference(left).size;
}

/** For people: what the programs do for an owner. */
function textOf({ owner, sources, untranslated }: NatIntent): string {
  const lines = sources.map((source) => {
    const came = source.inInterfaces === undefined ? "" : `, come by ${source.inInterfaces.join(" or ")}`;
    const leaves =
      source.outInterfaces === undefined ? "" : `, leaving by ${source.outInterfaces.join(" or ")}`;
    return `  from ${source.cidr}${came}${leaves}: ${translationText(source.translation)}`;
  });
  const kept = untranslated.map((cidr) => `  not to ${cidr}`);
  return [`# eBPF programs at the links by which packets leave, for ${owner}`, ...lines, ...kept].join("\n");
}
