import { ERRNO, SystemError } from "../../linux/errno.ts";
import { NLMSG_DONE, NLMSG_ERROR } from "../../linux/netlink/message.ts";
import { openTransport, type NetlinkTransport, type TransportOptions } from "./transport.ts";

/** A dump hands over at most 32 KiB at a time (netlink_dump in net/netlink/af_netlink.c). */
const SLOT_BYTES = 32 * 1024;
const SLOTS = 128;
/**
 * Datagrams that are read between two wake-ups of the one who waits for them. A wake-up costs the reading thread some
 * microseconds, and the reading thread is the one that all wait for.
 */
const WAKE_EVERY = 16;
/** Words before the slots: datagrams read, datagrams done with, and each slot's length. */
const READ = 0;
const DONE_WITH = 1;
const LENGTHS = 2;
const HEADER_BYTES = 4 * (LENGTHS + SLOTS + 2);

/**
 * What the thread does: it reads until the dump's last message, and waits when every slot is full. It is text, so that
 * it needs no file of its own in a single-file build; it uses nothing but node:fs.
 */
const THREAD = `
import { readSync } from "node:fs";
self.onmessage = ({ data: { shared, fd } }) => {
  const words = new Int32Array(shared, 0, ${LENGTHS + SLOTS});
  for (let n = 0, open = true; open; n++) {
    for (let done; n - (done = Atomics.load(words, ${DONE_WITH})) >= ${SLOTS}; ) Atomics.wait(words, ${DONE_WITH}, done);
    const slot = n % ${SLOTS};
    const start = ${HEADER_BYTES} + slot * ${SLOT_BYTES};
    let length;
    try {
      length = readSync(fd, new Uint8Array(shared, start, ${SLOT_BYTES}), 0, ${SLOT_BYTES}, null);
      open = !isLast(new DataView(shared, start, length));
    } catch (error) {
      length = -Math.abs(error.errno ?? ${ERRNO.EIO});
      open = false;
    }
    Atomics.store(words, ${LENGTHS} + slot, length);
    Atomics.store(words, ${READ}, n + 1);
    if (!open || n % ${WAKE_EVERY} === ${WAKE_EVERY - 1}) Atomics.notify(words, ${READ});
  }
  close();
};
function isLast(view) {
  for (let at = 0; at + 16 <= view.byteLength; ) {
    const type = view.getUint16(at + 4, true);
    if (type === ${NLMSG_DONE} || type === ${NLMSG_ERROR}) return true;
    at += Math.max(16, (view.getUint32(at, true) + 3) & ~3);
  }
  return false;
}
`;

/**
 * A transport for one large dump: a second thread reads ahead, so that the kernel fills the next datagram on another
 * core while we look at the last. Its thread takes about 8 ms to begin, which a dump of many thousand objects repays.
 * After the dump it is of no more use; close it.
 *
 * What remains is the kernel's own time, about 1.5 µs for a tracked connection, and it cannot be shared out: a dump
 * begins at the first hash bucket, always, and the kernel's filters know no halves (addresses, ports and protocols are
 * compared whole; what halves there are (family, SNAT or not) mostly hold everything in one of them; marks and the other
 * status bits change meanwhile, so that both of two dumps could miss an entry). Larger buffers do not help either: the
 * kernel fills no more than 32 KiB, and with 8 KiB it is as quick.
 */
class ReadAheadTransport implements NetlinkTransport {
  readonly #shared = new SharedArrayBuffer(HEADER_BYTES + SLOTS * SLOT_BYTES);
  readonly #words = new Int32Array(this.#shared, 0, LENGTHS + SLOTS);
  #received = 0;
  #thread: Worker | undefined;

  constructor(
    readonly socket: NetlinkTransport,
    readonly fd: number,
  ) {}

  send(datagram: Uint8Array): void {
    this.socket.send(datagram);
    const url = URL.createObjectURL(new Blob([THREAD], { type: "application/javascript" }));
    this.#thread = new Worker(url);
    this.#thread.unref();
    this.#thread.postMessage({ shared: this.#shared, fd: this.fd }, []);
  }

  receive(timeoutMs: number): Uint8Array | undefined {
    // The caller asks for the next datagram when it is done with the last.
    Atomics.store(this.#words, DONE_WITH, this.#received);
    Atomics.notify(this.#words, DONE_WITH);
    while (Atomics.load(this.#words, READ) === this.#received) {
      if (Atomics.wait(this.#words, READ, this.#received, timeoutMs) === "timed-out") return undefined;
    }
    const slot = this.#received++ % SLOTS;
    const length = Atomics.load(this.#words, LENGTHS + slot);
    if (length < 0) throw new SystemError("read", -length);
    return new Uint8Array(this.#shared, HEADER_BYTES + slot * SLOT_BYTES, length);
  }

  join(group: number): void {
    this.socket.join(group);
  }

  close(): void {
    this.#thread?.terminate();
    this.socket.close();
  }
}

/** A socket for one large dump that a second thread reads. @throws SystemError */
export function openReadAhead(protocol: number, options: TransportOptions = {}): NetlinkTransport {
  const socket = openTransport(protocol, options);
  return new ReadAheadTransport(socket, socket.fd);
}
