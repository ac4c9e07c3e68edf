/**
 * Bytes as the kernel lays them out. Netlink speaks the host's byte order; every machine that Bun runs on is
 * little-endian. Fields that netfilter defines in network order have their own be* codecs.
 */

/** Bytes to read, with both views made once. */
export class Wire {
  readonly view: DataView;
  constructor(readonly bytes: Uint8Array) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
}

/** NLA_ALIGN and NLMSG_ALIGN (include/uapi/linux/netlink.h): everything starts at a multiple of four. */
export function align4(length: number): number {
  return (length + 3) & ~3;
}

/** Bytes to write, growing as needed. */
export class Writer {
  bytes: Uint8Array;
  view: DataView;
  length = 0;

  constructor(capacity = 256) {
    // An array's own buffer is made only when it is asked for, and slower than one that was there first.
    const buffer = new ArrayBuffer(capacity);
    this.bytes = new Uint8Array(buffer);
    this.view = new DataView(buffer);
  }

  /** Makes room for `count` zeroed bytes and returns where they start. */
  reserve(count: number): number {
    const start = this.length;
    this.length += count;
    if (this.length > this.bytes.length) {
      const bigger = new Uint8Array(Math.max(this.length, this.bytes.length * 2));
      bigger.set(this.bytes.subarray(0, start));
      this.bytes = bigger;
      this.view = new DataView(bigger.buffer);
    }
    return start;
  }

  append(bytes: Uint8Array): void {
    const at = this.reserve(bytes.length);
    this.bytes.set(bytes, at);
  }

  /** Pads with zeros to the next multiple of four. */
  align(): void {
    this.reserve(align4(this.length) - this.length);
  }

  /** What was written so far; a view, not a copy. */
  done(): Uint8Array {
    return this.bytes.subarray(0, this.length);
  }
}

/** Bytes that are not what they claim to be. `path` names the field: "RTM_NEWLINK.IFLA_LINKINFO". */
export class DecodeError extends Error {
  override readonly name = "DecodeError";
  constructor(
    readonly path: string,
    readonly problem: string,
  ) {
    super(path === "" ? problem : `${path}: ${problem}`);
  }

  /** The same error seen from one level further out. */
  within(outer: string): DecodeError {
    return new DecodeError(this.path === "" ? outer : `${outer}.${this.path}`, this.problem);
  }
}

/** A value that cannot be put on the wire. */
export class EncodeError extends Error {
  override readonly name = "EncodeError";
  constructor(
    readonly path: string,
    readonly problem: string,
  ) {
    super(path === "" ? problem : `${path}: ${problem}`);
  }

  within(outer: string): EncodeError {
    return new EncodeError(this.path === "" ? outer : `${outer}.${this.path}`, this.problem);
  }
}
