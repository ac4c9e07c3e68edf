/**
 * Which addresses an owner holds, without reading every address file: one small file per owner in `.owners`, beside
 * host-local's own files. It is believed only while it is sealed: the modification times of its directory and of the
 * network's are a set distance apart, which no change of either can leave behind. When another program changed the
 * addresses, or we died half-way, the seal is broken and the index is made again from the address files.
 */
import { rethrowMistake } from "../error.ts";
import { isIp } from "../address/ip.ts";
import {
  listDirectory,
  makeDirectory,
  readTextIfThere,
  removeFile,
  setTimes,
  statFile,
  writeText,
} from "../kernel/file.ts";
import { SystemError } from "../linux/errno.ts";
import type { AddressOwner } from "./assignment.ts";
import { ownerText, parseOwner, readOwnerFile } from "./owner-file.ts";
import { shaHex } from "../platform/bytes.ts";

const DIRECTORY = ".owners";
/**
 * How much older a sealed index's directory is than the network's. Not nothing: who dies between two changes can leave
 * both with the same time stamp, for the kernel's clock for files ticks only every few milliseconds.
 */
const SEAL_DISTANCE_S = 1000;
/** How the kernel refuses what stands where a file of ours should: a directory, a FIFO that nobody reads, a link. */
const ODD: ReadonlySet<string> = new Set([
  "EFBIG",
  "EINVAL",
  "EISDIR",
  "ENOTDIR",
  "EEXIST",
  "ENXIO",
  "ELOOP",
  "EPERM",
]);
/** linux/limits.h */
const NAME_MAX = 255;

/** Who holds which addresses. */
export interface Reservation {
  readonly owner: AddressOwner;
  readonly addresses: readonly string[];
}

export class OwnerIndex {
  readonly #directory: string;
  /** Instead of the files, when those cannot be written: a full disk must not keep an address from being released. */
  #memory: Map<string, readonly string[]> | undefined;

  /** @param network the directory with the address files; the caller holds its lock */
  constructor(private readonly network: string) {
    this.#directory = `${network}/${DIRECTORY}`;
    if (!this.#isSealed()) this.#rebuild();
  }

  get(owner: AddressOwner): readonly string[] {
    const name = fileName(owner);
    if (this.#memory !== undefined) return this.#memory.get(name) ?? [];
    let text: string | undefined = "";
    this.#unlessOdd(() => (text = readTextIfThere(`${this.#directory}/${name}`)));
    if (text === undefined) return [];
    // What is no file, or not as we write it, says nothing of who holds what: then the address files do.
    const lines = text.trimEnd().split("\n");
    return lines.every(isIp) ? lines : (this.#distrust().get(name) ?? []);
  }

  /** @throws SystemError where there is no room */
  set(owner: AddressOwner, addresses: readonly string[]): void {
    const name = fileName(owner);
    if (this.#memory === undefined) this.#unlessOdd(() => this.#write(name, addresses));
    this.#memory?.set(name, addresses);
  }

  delete(owner: AddressOwner): void {
    const name = fileName(owner);
    this.#unlessOdd(() => removeFile(`${this.#directory}/${name}`));
    this.#memory?.delete(name);
  }

  /** A directory, a FIFO or a link in the place of one of our files must keep nobody from an address of their own. */
  #unlessOdd(change: () => void): void {
    try {
      change();
    } catch (error) {
      if (!(error instanceof SystemError) || !ODD.has(error.code)) throw error;
      this.#distrust();
    }
  }

  /** From here on the address files count, for this call and, since the index is not sealed, for the next. */
  #distrust(): Map<string, readonly string[]> {
    return (this.#memory ??= holdings(this.network));
  }

  /** Says that the index holds what the address files hold. The last thing to do after a change. */
  seal(): void {
    if (this.#memory !== undefined) return;
    // Not now: another process's change could carry the same coarse time stamp.
    const instant = Math.floor(Date.now() / 1000) - 1;
    setTimes(this.network, instant);
    setTimes(this.#directory, instant - SEAL_DISTANCE_S);
  }

  #isSealed(): boolean {
    try {
      const apart = statFile(this.network).modifiedNs - statFile(this.#directory).modifiedNs;
      return apart === BigInt(SEAL_DISTANCE_S) * 1_000_000_000n;
    } catch (error) {
      rethrowMistake(error);
      return false;
    }
  }

  #rebuild(): void {
    const found = holdings(this.network);
    try {
      makeDirectory(this.#directory, 0o755);
      for (const name of listDirectory(this.#directory)) {
        if (!found.has(name)) removeFile(`${this.#directory}/${name}`);
      }
      for (const [name, addresses] of found) this.#write(name, addresses);
      this.seal();
    } catch (error) {
      rethrowMistake(error);
      this.#memory = found;
    }
  }

  #write(name: string, addresses: readonly string[]): void {
    const text = addresses.map((address) => `${address}\n`).join("");
    writeText(`${this.#directory}/${name}`, text, "w", 0o644);
  }
}

/**
 * Everybody who holds an address, from the address files. An empty one was left by a writer that died: since we hold
 * the lock nobody is about to fill it, so it is removed.
 */
export function readReservations(network: string): Reservation[] {
  const found = new Map<string, { readonly owner: AddressOwner; readonly addresses: string[] }>();
  for (const address of listDirectory(network).filter(isIp)) {
    const text = readOwnerFile(`${network}/${address}`) ?? "";
    if (text === "") removeFile(`${network}/${address}`);
    const owner = parseOwner(text);
    if (owner === undefined) continue;
    const known = found.get(ownerText(owner));
    if (known === undefined) found.set(ownerText(owner), { owner, addresses: [address] });
    else known.addresses.push(address);
  }
  return [...found.values()];
}

/** The same by the names that owners have in the index. */
function holdings(network: string): Map<string, readonly string[]> {
  return new Map(
    readReservations(network).map(({ owner, addresses }) => [fileName(owner), addresses] as const),
  );
}

/** Neither a container id nor an interface name may hold a colon. */
function fileName(owner: AddressOwner): string {
  const name = `${owner.container}:${owner.interfaceName}`;
  return name.length <= NAME_MAX ? name : shaHex("sha256", name);
}
