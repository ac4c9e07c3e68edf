/** The programs as the kernel holds them: loaded when they are first asked for, with their maps and constants. */
import { ETH_HLEN } from "../../../linux/link-layer.ts";
import { closeFile } from "../../../kernel/file.ts";
import { loadTrafficProgram, type TcxSide } from "../../../kernel/bpf/link.ts";
import { BpfMap, MAP_TYPES, READ_ONLY_FOR_PROGRAMS } from "../../../kernel/bpf/map.ts";
import { runOnce } from "../../../kernel/bpf/run.ts";
import type { BpfObject } from "../../../linux/bpf/object.ts";
import { numberKey } from "./layout.ts";
import type { NatMaps } from "./maps.ts";
import { fastProgramName, OLDER_MAPS, programNameAt } from "./names.ts";

/** Disposed of, they live on where they are attached. */
export class LoadedPrograms implements Disposable {
  readonly #loaded = new Map<string, number>();
  readonly #byName: ReadonlyMap<string, BpfMap>;
  readonly #ours: BpfMap[] = [];

  /** @param older the generation that flows move from, by the names of OLDER_MAPS */
  constructor(
    private readonly object: BpfObject,
    readonly maps: NatMaps,
    private readonly older?: ReadonlyMap<string, BpfMap>,
  ) {
    const stand = object.maps
      .filter(({ name }) => OLDER_MAPS.includes(name))
      .map((one) => [one.name, this.older?.get(one.name) ?? this.#own({ ...one, entries: 1 })] as const);
    this.#byName = new Map([...maps.byName, ...stand]);
  }

  atLink(side: TcxSide, frameBytes: number): number {
    return this.#of(side, programNameAt(side), frameBytes);
  }

  /** Of the short way: for what leaves by a link of pods, or for what arrives by an uplink. */
  fastPath(which: "leaves" | "arrives"): number {
    return this.#of(`fast-${which}`, fastProgramName(which), ETH_HLEN);
  }

  /** Lets a program do something to one flow. False: there was nothing to do. */
  ask(program: "forget" | "move", slot: number, life = 0): boolean {
    return runOnce(this.#of(program, `wayout_${program}`, 0), [slot, life]) === 1;
  }

  [Symbol.dispose](): void {
    for (const fd of this.#loaded.values()) closeFile(fd);
    for (const map of this.#ours) map[Symbol.dispose]();
  }

  #of(section: string, name: string, frameBytes: number): number {
    const key = `${section} ${frameBytes}`;
    const known = this.#loaded.get(key);
    if (known !== undefined) return known;
    const program = this.object.programs.find((one) => one.name === section);
    if (program === undefined) throw new Error(`the BPF object has no program for ${section}`);
    using constants = this.#constants(frameBytes);
    const fd = loadTrafficProgram(
      name,
      program,
      new Map([...this.#byName, [".rodata", constants]]),
      this.object.license,
    );
    this.#loaded.set(key, fd);
    return fd;
  }

  /** What the verifier knows, it leaves no choice for: what a constant excludes costs nothing. */
  #constants(frameBytes: number): BpfMap {
    const section = this.object.data.get(".rodata")!;
    const value = section.slice();
    const view = new DataView(value.buffer);
    const values = {
      frame_bytes: frameBytes,
      slots: this.maps.get("flows").definition.entries,
      moves: this.older === undefined ? 0 : 1,
    };
    for (const [name, number] of Object.entries(values)) {
      const at = this.object.constants.get(name);
      if (at === undefined) throw new Error(`the BPF object has no constant ${name}`);
      view.setUint32(at, number, true);
    }
    const map = BpfMap.create({
      name: "rodata",
      type: MAP_TYPES.array,
      keyBytes: 4,
      valueBytes: value.length,
      entries: 1,
      flags: READ_ONLY_FOR_PROGRAMS,
    });
    map.set(numberKey(0), value);
    map.freeze();
    return map;
  }

  #own(definition: BpfMap["definition"]): BpfMap {
    const map = BpfMap.create(definition);
    this.#ours.push(map);
    return map;
  }
}
