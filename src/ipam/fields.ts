/**
 * Reads JSON that others wrote, field by field; an error names the field by its path. A schema library does
 * the same and costs a third of a millisecond at every start of a program that itself runs for a few.
 */
import { AddressError, canonicalIp } from "../address/ip.ts";
import { parseCidr, type Cidr } from "../address/cidr.ts";

/** A field that is not as it must be. `path` is "ipam.ranges[0][1].subnet". */
export class FieldError extends Error {
  override readonly name = "FieldError";
  constructor(
    readonly path: string,
    problem: string,
  ) {
    super(path === "" ? problem : `${path} ${problem}`);
  }
}

/** One JSON object. Keys nobody asks for are left alone; null counts as absent, as it does for programs in Go. */
export class Fields {
  readonly #object: Readonly<Record<string, unknown>>;

  private constructor(
    object: object,
    readonly path: string,
  ) {
    this.#object = object as Readonly<Record<string, unknown>>;
  }

  /** @throws FieldError when the value is no object */
  static of(value: unknown, path = ""): Fields {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw new FieldError(path, `must be an object, not ${kindOf(value)}`);
    }
    return new Fields(value, path);
  }

  pathOf(key: string): string {
    return this.path === "" ? key : `${this.path}.${key}`;
  }

  /** The value as it came; undefined when absent or null. */
  raw(key: string): unknown {
    return Object.hasOwn(this.#object, key) ? (this.#object[key] ?? undefined) : undefined;
  }

  object(key: string): Fields | undefined {
    const value = this.raw(key);
    return value === undefined ? undefined : Fields.of(value, this.pathOf(key));
  }

  string(key: string): string | undefined {
    const value = this.raw(key);
    return value === undefined ? undefined : asString(value, this.pathOf(key));
  }

  boolean(key: string): boolean | undefined {
    const value = this.raw(key);
    if (value === undefined || typeof value === "boolean") return value;
    return this.refuse(key, `must be true or false, not ${kindOf(value)}`);
  }

  /** A whole number between the bounds, both allowed. */
  integer(key: string, least: number, most: number): number | undefined {
    const value = this.raw(key);
    if (value === undefined) return undefined;
    if (typeof value === "number" && Number.isInteger(value) && value >= least && value <= most) return value;
    const found = typeof value === "number" ? String(value) : kindOf(value);
    return this.refuse(key, `must be a whole number from ${least} to ${most}, not ${found}`);
  }

  list<T>(key: string, read: (value: unknown, path: string) => T): T[] | undefined {
    const value = this.raw(key);
    return value === undefined ? undefined : asList(value, this.pathOf(key), read);
  }

  strings(key: string): string[] | undefined {
    return this.list(key, asString);
  }

  /** An address in canonical text. */
  ip(key: string): string | undefined {
    const value = this.raw(key);
    // Go's net.IP reads "" as no address, and configurations rely on it.
    return value === undefined || value === "" ? undefined : asIp(value, this.pathOf(key));
  }

  refuse(key: string, problem: string): never {
    throw new FieldError(this.pathOf(key), problem);
  }
}

export function asString(value: unknown, path: string): string {
  if (typeof value === "string") return value;
  throw new FieldError(path, `must be a string, not ${kindOf(value)}`);
}

export function asList<T>(value: unknown, path: string, read: (value: unknown, path: string) => T): T[] {
  if (!Array.isArray(value)) throw new FieldError(path, `must be a list, not ${kindOf(value)}`);
  return value.map((item, index) => read(item, `${path}[${index}]`));
}

/** An address in canonical text. */
export function asIp(value: unknown, path: string): string {
  return withPath(path, () => canonicalIp(asString(value, path)));
}

/** A prefix. */
export function asCidr(value: unknown, path: string, hostBits: "refuse" | "keep" = "refuse"): Cidr {
  return withPath(path, () => parseCidr(asString(value, path), hostBits));
}

function withPath<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw error instanceof AddressError ? new FieldError(path, error.message) : error;
  }
}

function kindOf(value: unknown): string {
  if (value === null) return "null";
  return Array.isArray(value) ? "a list" : `${typeof value === "object" ? "an" : "a"} ${typeof value}`;
}
