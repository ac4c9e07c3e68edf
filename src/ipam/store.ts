/**
 * host-local's files: in a network's directory one file per address in use, named by the address;
 * `last_reserved_ip.N` for each range set; `lock` for flock(2). The reference plugin works on the same directory,
 * before us, after us and at the same time.
 *
 * Nothing is flushed to the disk: a reservation need not outlive the kernel in which its pod lived, and an address file
 * that a power failure left empty belongs to nobody.
 */
import { isIp } from "../address/ip.ts";
import { rethrowMistake, WayoutError } from "../error.ts";
import { SystemError } from "../linux/errno.ts";
import { FileLock } from "../kernel/file-lock.ts";
import { isMissing, listDirectory, makeDirectory, makeFile, removeFile, writeText } from "../kernel/file.ts";
import { placeFailure, requirePlace, requireWritable } from "../kernel/own-place.ts";
import type { AddressOwner } from "./assignment.ts";
import { isOwnedBy, ownerText, parseOwner, NO_FILE, readOwnerFile } from "./owner-file.ts";
import { OwnerIndex, readReservations, type Reservation } from "./owner-index.ts";

/** That the next reservation can be written. @throws WayoutError `address-store` */
export function requireStore(directory: string): void {
  attempt(directory, `looking after ${directory}`, () => {
    requireWritable(directory, "blocks");
    requirePlace(lockOf(directory), "file");
  });
}

function lockOf(directory: string): string {
  return `${directory}/lock`;
}

/** The reference plugin holds the lock for as long as one of its calls takes. */
const TIMEOUT_MS = 30_000;

/** A network's addresses, with the lock held from open to close. Every method may throw WayoutError `address-store`. */
export class AddressStore implements Disposable {
  readonly #index: OwnerIndex;
  #changed = false;

  private constructor(
    readonly directory: string,
    private readonly lock: FileLock,
  ) {
    this.#index = new OwnerIndex(directory);
  }

  /** Makes the directory when it is missing, and waits for the lock. */
  static open(directory: string): AddressStore {
    return attempt(directory, `opening ${directory}`, () => {
      makeDirectory(directory, 0o755);
      const others = { permissions: 0o640 };
      const wait = { doing: `opening ${directory}`, timeoutMs: TIMEOUT_MS, others };
      return new AddressStore(directory, FileLock.take(lockOf(directory), wait));
    });
  }

  /** The same, but undefined when there is no such directory: then nobody holds an address. */
  static openExisting(directory: string): AddressStore | undefined {
    try {
      listDirectory(directory);
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw storeError(directory, `opening ${directory}`, error);
    }
    return AddressStore.open(directory);
  }

  /** The addresses that an owner holds; empty when none. */
  addressesOf(owner: AddressOwner): readonly string[] {
    return attempt(this.directory, `reading ${this.directory}`, () => [
      ...this.#index.get(owner),
      ...this.#index.get(withoutInterface(owner)),
    ]);
  }

  /** Everybody who holds an address. Reads every address file. */
  reservations(): Reservation[] {
    return attempt(this.directory, `reading ${this.directory}`, () => readReservations(this.directory));
  }

  /** Every address that has a file. */
  addresses(): string[] {
    return attempt(this.directory, `reading ${this.directory}`, () =>
      listDirectory(this.directory).filter(isIp),
    );
  }

  /** Addresses that are not given away: also those of files that make no sense. */
  occupied(): string[] {
    return attempt(this.directory, `reading ${this.directory}`, () =>
      this.addresses().filter((address) => (readOwnerFile(`${this.directory}/${address}`) ?? "") !== ""),
    );
  }

  /** Addresses whose files name nobody. */
  orphans(): string[] {
    return attempt(this.directory, `reading ${this.directory}`, () =>
      this.addresses().filter((address) => {
        const text = readOwnerFile(`${this.directory}/${address}`) ?? "";
        return text !== NO_FILE && parseOwner(text) === undefined;
      }),
    );
  }

  /** The address given away last from a range set; undefined when that is not known. */
  lastReserved(set: number): string | undefined {
    return attempt(this.directory, `reading ${this.directory}`, () => {
      const text = readOwnerFile(`${this.directory}/last_reserved_ip.${set}`)?.trim();
      return text !== undefined && isIp(text) ? text : undefined;
    });
  }

  /** Takes an address. False when it is taken. To be followed by `record`. */
  claim(address: string, owner: AddressOwner, set: number): boolean {
    const path = `${this.directory}/${address}`;
    return attempt(this.directory, `reserving ${address} in ${this.directory}`, () => {
      if (!makeFile(path, 0o644)) return false;
      this.#changed = true;
      try {
        writeText(path, ownerText(owner));
        this.#noteLast(address, set);
        return true;
      } catch (error) {
        removeFile(path);
        throw error;
      }
    });
  }

  /** Where something else stands in the place of the note the next address is looked for from the beginning. */
  #noteLast(address: string, set: number): void {
    const path = `${this.directory}/last_reserved_ip.${set}`;
    try {
      writeText(path, address, "w", 0o644);
    } catch (error) {
      if (readOwnerFile(path) !== NO_FILE) throw error;
    }
  }

  /** Writes into the index which addresses an owner has claimed. */
  record(owner: AddressOwner, addresses: readonly string[]): void {
    this.#changed = true;
    attempt(this.directory, `reserving ${addresses.join(" and ")} in ${this.directory}`, () =>
      this.#index.set(owner, addresses),
    );
  }

  /** Gives back all that an owner holds, or just what it `claimed` before it came to `record`. Returns what was freed. */
  release(owner: AddressOwner, claimed: readonly string[] = []): string[] {
    return attempt(
      this.directory,
      `releasing the addresses of ${owner.container} in ${this.directory}`,
      () => {
        const freed = [...new Set([...this.addressesOf(owner), ...claimed])].filter((address) =>
          this.#free(address, owner),
        );
        if (freed.length === 0) return freed;
        this.#changed = true;
        this.#index.delete(owner);
        this.#index.delete(withoutInterface(owner));
        return freed;
      },
    );
  }

  /** Removes the file of an address that belongs to nobody. */
  removeOrphan(address: string): void {
    this.#changed = true;
    attempt(this.directory, `releasing ${address} in ${this.directory}`, () =>
      removeFile(`${this.directory}/${address}`),
    );
  }

  close(): void {
    try {
      if (this.#changed) this.#index.seal();
    } catch (error) {
      rethrowMistake(error);
      // Unsealed it is made again next time; what was done stands all the same.
    } finally {
      this.lock[Symbol.dispose]();
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** An address whose file names another owner is that owner's, whatever the index says. */
  #free(address: string, owner: AddressOwner): boolean {
    const path = `${this.directory}/${address}`;
    const text = readOwnerFile(path);
    if (text === undefined) return false;
    if (parseOwner(text) !== undefined && !isOwnedBy(text, owner)) return false;
    removeFile(path);
    return true;
  }
}

/** Who holds an address, without the lock: for looking only. undefined when it is free or its file names nobody. */
export function addressHolder(directory: string, address: string): AddressOwner | undefined {
  return attempt(directory, `reading ${directory}/${address}`, () =>
    parseOwner(readOwnerFile(`${directory}/${address}`) ?? ""),
  );
}

/** How many addresses of a network are in use, without the lock; 0 when it has no directory yet. */
export function countReservations(directory: string): number {
  let count = 0;
  for (const name of filesOf(directory)) if (isIp(name)) count++;
  return count;
}

/** No fewer than addresses in use: enough to see that a network is far from being used up, without a look at each name. */
export function countFiles(directory: string): number {
  return filesOf(directory).length;
}

function filesOf(directory: string): readonly string[] {
  try {
    return listDirectory(directory);
  } catch (error) {
    if (isMissing(error)) return [];
    throw storeError(directory, `reading ${directory}`, error);
  }
}

function withoutInterface(owner: AddressOwner): AddressOwner {
  return { container: owner.container, interfaceName: "" };
}

function attempt<T>(directory: string, doing: string, what: () => T): T {
  try {
    return what();
  } catch (error) {
    throw storeError(directory, doing, error);
  }
}

function storeError(directory: string, doing: string, error: unknown): WayoutError {
  if (error instanceof WayoutError) return error;
  const code = error instanceof SystemError ? error.code : undefined;
  const full = code === "ENOSPC" || code === "EDQUOT";
  const todo = full
    ? "The disk is full: make room there; nothing was changed."
    : "Check that the directory exists, can be written by root, and holds no damaged files.";
  return new WayoutError({
    code: "address-store",
    kind: "machine",
    doing,
    ...placeFailure(lockOf(directory), "file", error, todo),
    cause: error,
  });
}
