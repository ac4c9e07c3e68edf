/** The maps of one network namespace: made once, found again by their names, filled with a policy. */
import { TCP_TIMEOUTS_S, UDP_TIMEOUTS_S } from "../../../linux/conntrack/timeouts.ts";
import { decodeUtf8, encodeUtf8 } from "../../../platform/bytes.ts";
import type { BpfObject, MapDefinition } from "../../../linux/bpf/object.ts";
import { BpfMap, MAP_TYPES, pinObject, READ_ONLY_FOR_PROGRAMS } from "../../../kernel/bpf/map.ts";
import { clockUs } from "../../../kernel/calls.ts";
import { makeDirectory, readText, removeFile, renameFile } from "../../../kernel/file.ts";
import { readSysctl } from "../../../kernel/sysctl.ts";
import type { NetworkNamespace } from "../../../kernel/namespace.ts";
import { OLDER_MAPS } from "./names.ts";
import { baseOf, numberKey, setOf, settingsValue, TIMEOUTS } from "./layout.ts";
import { BASES, POLICY_MAPS, type Base, type Entry, type PolicyEntries, type PolicyMap } from "./policy.ts";

/** Who wants what, as text (claim.ts): no program reads it. The first line names the programs. */
const CLAIMS = "claims";
/** A flow takes so many bytes: its record, and two entries of the index with what the kernel adds to each. */
const BYTES_PER_FLOW = 144 + 2 * (40 + 8 + 64);
/** Of the machine's memory, what the table of flows may take. */
const MEMORY_SHARE = 512;
const FEWEST_FLOWS = 65_536;
const MOST_FLOWS = 1 << 20;

/** What a flow is written down in, as a whole. */
export const FLOW_MAPS = ["flows", "places", "freed", "cursor_map"] as const;

/** Seconds, where the kernel tracks no connections and so has no settings for it; its own defaults. */
const USUAL_SECONDS: Readonly<Record<(typeof TIMEOUTS)[number], number>> = {
  none: 120,
  ...TCP_TIMEOUTS_S,
  udp: UDP_TIMEOUTS_S.unreplied,
  udp_stream: UDP_TIMEOUTS_S.replied,
  icmp: 30,
  generic: 600,
};

export class NatMaps implements Disposable {
  private constructor(
    readonly directory: string,
    readonly byName: ReadonlyMap<string, BpfMap>,
  ) {}

  /** What is there of them, in the shape that the programs expect: another version's may have another. */
  static open(directory: string, object: BpfObject): { readonly maps: NatMaps; readonly missing: string[] } {
    const byName = new Map<string, BpfMap>();
    const missing: string[] = [];
    for (const wanted of keptOf(object)) {
      const { name } = wanted;
      const map = BpfMap.pinned(`${directory}/${name}`, name);
      if (map !== undefined && hasShape(map, wanted)) byName.set(name, map);
      else {
        map?.[Symbol.dispose]();
        missing.push(name);
      }
    }
    return { maps: new NatMaps(directory, byName), missing };
  }

  /**
   * All of them; those that are missing are made, and `made` tells whether there were some: programs that run have others.
   * @param flows how many there is room for; absent: by the memory
   */
  static make(
    directory: string,
    object: BpfObject,
    flows = roomForFlows(),
  ): { readonly maps: NatMaps; readonly made: boolean } {
    makeDirectory(directory, 0o700);
    const { maps: found, missing } = NatMaps.open(directory, object);
    if (missing.length === 0) return { maps: found, made: false };
    // Where a flow is written down, how it is found, and which places are free: one without the others is worth nothing.
    const lost: readonly string[] = missing.some((name) => FLOW_MAPS.some((one) => one === name))
      ? [...missing, ...FLOW_MAPS]
      : missing;
    const byName = new Map<string, BpfMap>();
    for (const definition of keptOf(object)) {
      const { name } = definition;
      const path = `${directory}/${name}`;
      let map = found.byName.get(name);
      if (map === undefined || lost.includes(name)) {
        map?.[Symbol.dispose]();
        removeFile(path);
        map = BpfMap.create(sizedFor(flows, definition));
        pinObject(map.fd, path);
      }
      byName.set(name, map);
    }
    return { maps: new NatMaps(directory, byName), made: true };
  }

  get(name: string): BpfMap {
    const map = this.byName.get(name);
    if (map === undefined) throw new Error(`there is no map ${name}`);
    return map;
  }

  /** Which policy is valid; undefined before there was one. */
  get base(): Base | undefined {
    const settings = this.byName.get("settings")?.get(numberKey(0));
    const base = settings === undefined ? 0 : baseOf(settings);
    return BASES.find((one) => one === base);
  }

  /** What a policy has in a map at this base, and in the array of translations for it. */
  entries(map: PolicyMap, base: Base): Entry[] {
    const of = this.get(map);
    return of
      .keys()
      .filter((key) => belongsTo(map, key, base))
      .flatMap((key) => {
        const value = of.get(key);
        return value === undefined ? [] : [{ key, value }];
      });
  }

  /** Writes a policy beside the one that is valid, lets it be valid, and takes the old one away. */
  write(policy: (base: Base) => PolicyEntries, namespace: NetworkNamespace): void {
    const valid = this.base;
    const base = valid === BASES[0] ? BASES[1] : BASES[0];
    // Of a run that was killed.
    this.#erase(base);
    const { entries, translations, hasZones } = policy(base);
    try {
      for (const map of POLICY_MAPS) for (const { key, value } of entries[map]) this.get(map).set(key, value);
      for (const { key, value } of translations) this.get("translations").set(key, value);
    } catch (error) {
      this.#erase(base);
      throw error;
    }
    this.#writeSettings(base, hasZones, namespace);
    if (valid !== undefined) this.#erase(valid);
  }

  /** The lines of the claims; undefined when there are none. */
  get claims(): readonly string[] | undefined {
    return NatMaps.claimsIn(this.directory);
  }

  /** The same for who needs no other map: to know those, the programs would have to be read. */
  static claimsIn(directory: string): readonly string[] | undefined {
    using map = BpfMap.pinned(`${directory}/${CLAIMS}`, CLAIMS);
    const bytes = map?.get(numberKey(0));
    return bytes === undefined ? undefined : decodeUtf8(bytes).replace(/\0+$/, "").split("\n");
  }

  set claims(lines: readonly string[]) {
    const text = encodeUtf8(lines.join("\n"));
    const valueBytes = Math.max(8, text.length);
    using map = BpfMap.create({
      name: CLAIMS,
      type: MAP_TYPES.array,
      keyBytes: 4,
      valueBytes,
      entries: 1,
      flags: READ_ONLY_FOR_PROGRAMS,
    });
    const value = new Uint8Array(valueBytes);
    value.set(text);
    map.set(numberKey(0), value);
    map.freeze();
    const path = `${this.directory}/${CLAIMS}`;
    removeFile(`${path}-new`);
    pinObject(map.fd, `${path}-new`);
    renameFile(`${path}-new`, path);
  }

  [Symbol.dispose](): void {
    for (const map of this.byName.values()) map[Symbol.dispose]();
  }

  /** Whether the timeouts are still those of the namespace's connection tracking. */
  hasSettings({ hasZones }: PolicyEntries, namespace: NetworkNamespace): boolean {
    const found = this.get("settings").get(numberKey(0));
    const { base } = this;
    if (base === undefined || found === undefined) return false;
    return found.toHex() === settingsValue({ base, hasZones, seconds: secondsIn(namespace) }).toHex();
  }

  #writeSettings(base: number, hasZones: boolean, namespace: NetworkNamespace): void {
    const value = settingsValue({ base, hasZones, seconds: secondsIn(namespace) });
    this.get("settings").set(numberKey(0), value);
  }

  #erase(base: Base): void {
    for (const map of POLICY_MAPS) {
      const of = this.get(map);
      for (const key of of.keys()) if (belongsTo(map, key, base)) of.delete(key);
    }
  }
}

/** Whole nanoseconds of CLOCK_MONOTONIC, by which the programs tell the time. */
export function programClock(): number {
  return Math.round(clockUs(1) * 1000);
}

/** All that has a name of its own; what flows move from has the one that it had. */
function keptOf(object: BpfObject): MapDefinition[] {
  return object.maps.filter(({ name }) => !OLDER_MAPS.includes(name));
}

/** Each flow is found by two entries of the index. */
export function sizedFor(flows: number, definition: MapDefinition): MapDefinition {
  const { name, entries } = definition;
  return { ...definition, entries: entries > 0 ? entries : name === "places" ? 2 * flows : flows };
}

/** The sets of a policy lie behind its base; of `bound` the translation's index tells it. */
/** How many flows there is room for is no shape: it was chosen when the map was made. */
export function hasShape({ definition }: BpfMap, wanted: BpfObject["maps"][number]): boolean {
  return (
    definition.type === wanted.type &&
    definition.keyBytes === wanted.keyBytes &&
    definition.valueBytes === wanted.valueBytes &&
    (wanted.entries === 0 || definition.entries === wanted.entries)
  );
}

function belongsTo(map: PolicyMap, key: Uint8Array, base: Base): boolean {
  if (map === "bound") return setOf(key) >= 4096 === (base === BASES[1]);
  return setOf(key) >>> 24 === base >>> 24;
}

function secondsIn(namespace: NetworkNamespace): number[] {
  return TIMEOUTS.map((name) => {
    const of = /^(udp|icmp|generic)(.*)$/.exec(name);
    const setting = of === null ? `tcp_timeout_${name}` : `${of[1]}_timeout${of[2]}`;
    const value = Number(readSysctl(namespace, `net.netfilter.nf_conntrack_${setting}`));
    return Number.isInteger(value) && value > 0 ? value : USUAL_SECONDS[name];
  });
}

/** A power of two. */
function roomForFlows(): number {
  const [, kilobytes = "0"] = /^MemTotal:\s+(\d+)/m.exec(readText("/proc/meminfo")) ?? [];
  const flows = (Number(kilobytes) * 1024) / MEMORY_SHARE / BYTES_PER_FLOW;
  return 2 ** Math.floor(Math.log2(Math.min(MOST_FLOWS, Math.max(FEWEST_FLOWS, flows))));
}
