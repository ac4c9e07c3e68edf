import { SystemError, ERRNO } from "../../linux/errno.ts";
import { errorNumber, netlinkError, type NetlinkError } from "../../linux/netlink/netlink-error.ts";
import { align4, DecodeError, Wire, Writer } from "../../linux/netlink/wire.ts";
import {
  decode,
  decodeAt,
  messageLength,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_HDRLEN,
  NLMSG_MIN_TYPE,
  NLMSG_NOOP,
  NLMSG_OVERRUN,
  readMessages,
  writeMessage,
  type Message,
  type MessageSpec,
  type RawMessage,
  type Request,
  type AnyRequest,
} from "../../linux/netlink/message.ts";
import type { AttributeTable } from "../../linux/netlink/attributes.ts";
import type { NetlinkTransport } from "./transport.ts";

/** The kernel answers at once; only a transaction that waits for RCU, or a loaded machine, takes longer. */
const ANSWER_TIMEOUT_MS = 30_000;
/** recv(2) makes the rest of a dump itself: what is not there at once will not come, after a fault for instance. */
const DRAIN_TIMEOUT_MS = 100;
/** A dump that is interrupted this often meets a table that changes faster than it can be read. */
const DUMP_ATTEMPTS = 10;
/**
 * Requests of a batch go out in datagrams of at most this many: an acknowledgement takes up to a kilobyte of the
 * receive buffer, whose default is 208 KiB, and what does not fit is dropped (ENOBUFS).
 */
const BATCH_REQUESTS = 100;

/**
 * A conversation with one netlink family in one namespace. All calls are synchronous: the kernel has answered by the
 * time send(2) returns.
 */
export class NetlinkConnection implements Disposable {
  #sequence = 1;

  constructor(readonly transport: NetlinkTransport) {}

  /** Sends one request, waits for its acknowledgement, returns the answers that came before it. @throws NetlinkError */
  request<H extends MessageSpec["header"], T extends AttributeTable>(
    request: Request,
    answer: MessageSpec<H, T>,
  ): Message<H, T>[];
  request(request: Request): [];
  request(request: Request, answer?: MessageSpec): Message[] {
    const answers: Message[] = [];
    const sent = this.#send([request], () => NLM_F_ACK);
    this.#collect(sent, (raw) => {
      if (answer !== undefined) answers.push(decode(answer, raw));
    });
    return answers;
  }

  /**
   * Asks questions of which the kernel answers each with one message or an error, many in one datagram: half the
   * calls of `request`, as no acknowledgement follows. The answers stand in the order of the questions.
   */
  questions<H extends MessageSpec["header"], T extends AttributeTable>(
    requests: readonly Request[],
    answer: MessageSpec<H, T>,
  ): (Message<H, T> | NetlinkError)[] {
    const answers: (Message<H, T> | NetlinkError)[] = [];
    for (let first = 0; first < requests.length; first += BATCH_REQUESTS) {
      const sent = this.#send(requests.slice(first, first + BATCH_REQUESTS), () => 0);
      for (let open = sent.requests.length; open > 0;) {
        for (const raw of this.#receive(sent.requests[sent.requests.length - open]!)) {
          const index = raw.sequence - sent.firstSequence;
          const asked = sent.requests[index];
          if (asked === undefined || (raw.type < NLMSG_MIN_TYPE && raw.type !== NLMSG_ERROR)) continue;
          open--;
          answers[first + index] =
            raw.type === NLMSG_ERROR
              ? netlinkError(raw, asked.doing, asked.message, sent.bytesOf(index))
              : decode(answer, raw);
        }
      }
    }
    return answers;
  }

  /** One such question. @throws NetlinkError */
  question<H extends MessageSpec["header"], T extends AttributeTable>(
    request: Request,
    answer: MessageSpec<H, T>,
  ): Message<H, T> {
    const [answered] = this.questions([request], answer);
    if (answered instanceof Error) throw answered;
    return answered!;
  }

  /**
   * Sends many requests, as few datagrams as sensible, in order. The kernel carries out each on its own: later ones
   * run even when an earlier one failed. Returns the error of each failed request, by its index.
   */
  batchResults(requests: readonly AnyRequest[]): Map<number, Error> {
    const errors = new Map<number, Error>();
    for (let next = 0; next < requests.length;) {
      const first = next;
      const sent = this.#send(requests.slice(first, first + BATCH_REQUESTS), () => NLM_F_ACK);
      next = first + sent.requests.length;
      this.#collect(
        sent,
        () => {},
        (index, error) => errors.set(first + index, error),
      );
    }
    return errors;
  }

  /** batchResults, throwing the first error. */
  batch(requests: readonly AnyRequest[]): void {
    for (const error of this.batchResults(requests).values()) throw error;
  }

  /**
   * Every object of a kind. A dump that the kernel marks as interrupted (NLM_F_DUMP_INTR: the table changed while it
   * was read, so that objects may be missing or double) is repeated.
   */
  dump<H extends MessageSpec["header"], T extends AttributeTable>(
    request: Request,
    answer: MessageSpec<H, T>,
  ): Message<H, T>[] {
    for (let attempt = 1; ; attempt++) {
      const answers: Message<H, T>[] = [];
      const interrupted = this.dumpEach(request, (wire, start, end) => {
        answers.push(decodeAt(answer, wire, start, end));
      });
      if (!interrupted) return answers;
      if (attempt === DUMP_ATTEMPTS) {
        throw new SystemError(
          request.message.name,
          ERRNO.EAGAIN,
          `was interrupted ${attempt} times by changes`,
        );
      }
    }
  }

  /**
   * A dump as it arrives, message by message, for tables too large to hold. Ends with one NLMSG_DONE whose
   * `interrupted` tells whether the table changed meanwhile. Leaving the loop early is allowed.
   */
  *dumpRaw(request: Request): Generator<RawMessage & { readonly interrupted: boolean }> {
    const sent = this.#send([request], () => NLM_F_DUMP);
    const sequence = sent.firstSequence;
    let interrupted = false;
    let done = false;
    let last: Uint8Array | undefined;
    try {
      while (!done) {
        last = undefined;
        for (const raw of this.#receive(request)) {
          last = raw.wire.bytes;
          if (raw.sequence !== sequence) continue;
          interrupted ||= (raw.flags & NLM_F_DUMP_INTR) !== 0;
          if (raw.type === NLMSG_DONE || raw.type === NLMSG_ERROR) {
            done = true;
            const error = errorNumber(raw);
            if (error !== 0) {
              throw netlinkError(
                raw,
                request.doing,
                request.message,
                sent.bytesOf(0),
                raw.type === NLMSG_ERROR,
              );
            }
            yield { ...raw, type: NLMSG_DONE, interrupted };
            break;
          }
          if (raw.type === NLMSG_NOOP) continue;
          yield { ...raw, interrupted };
        }
      }
    } finally {
      if (!done) this.#drain(sequence, last);
    }
  }

  /**
   * A dump without an object for each message, for tables too large even for dumpRaw: the visitor gets the bytes and
   * where the payload behind struct nlmsghdr begins and ends. They are valid until it returns; the same Wire means the
   * same datagram. Returns whether the table changed meanwhile.
   */
  dumpEach(request: Request, visitor: DumpVisitor): boolean {
    const sent = this.#send([request], () => NLM_F_DUMP);
    const dump: DumpInProgress = { sequence: sent.firstSequence, interrupted: false, end: undefined };
    let datagram: Uint8Array | undefined;
    try {
      while (dump.end === undefined) {
        datagram = this.transport.receive(ANSWER_TIMEOUT_MS);
        if (datagram === undefined) throw noAnswer(request);
        visitDatagram(datagram, dump, visitor);
      }
    } finally {
      if (dump.end === undefined) this.#drain(sent.firstSequence, datagram);
    }
    const { end, interrupted } = dump;
    if (errorNumber(end) !== 0) {
      throw netlinkError(end, request.doing, request.message, sent.bytesOf(0), end.type === NLMSG_ERROR);
    }
    return interrupted;
  }

  /**
   * Sends several requests in one datagram and gathers the errors of all: the shape of an nfnetlink batch. Only the
   * request at `acknowledged` is acknowledged; an error of the first one ends the exchange at once.
   */
  exchangeBatch(requests: readonly AnyRequest[], acknowledged: number): Map<number, Error> {
    const sent = this.#send(requests, (index) => (index === acknowledged ? NLM_F_ACK : 0));
    const errors = new Map<number, Error>();
    let dropped: SystemError | undefined;
    for (let open = true; open;) {
      let datagram: Uint8Array | undefined;
      try {
        // Everything is queued by now. After an error the kernel may have stopped before the last request.
        datagram = this.transport.receive(errors.size > 0 || dropped !== undefined ? 0 : ANSWER_TIMEOUT_MS);
      } catch (error) {
        // More errors than the receive buffer holds: the first ones are in it, and they are what counts.
        if (!(error instanceof SystemError) || error.code !== "ENOBUFS" || dropped !== undefined) throw error;
        dropped = error;
        continue;
      }
      if (datagram === undefined) {
        if (errors.size > 0) break;
        throw dropped ?? noAnswer(requests[acknowledged]!);
      }
      for (const raw of readMessages(datagram)) {
        const index = raw.sequence - sent.firstSequence;
        const request = requests[index];
        if (request === undefined || raw.type !== NLMSG_ERROR) continue;
        if (errorNumber(raw) !== 0) {
          errors.set(index, netlinkError(raw, request.doing, request.message, sent.bytesOf(index)));
          if (index === 0) open = false;
        }
        if (index === acknowledged) open = false;
      }
    }
    return errors;
  }

  /** Joins a multicast group (e.g. NFNLGRP_CONNTRACK_NEW). */
  join(group: number): void {
    this.transport.join(group);
  }

  /**
   * Messages that nobody asked for (events), those of one datagram; empty when none came in time.
   * @throws SystemError ENOBUFS when events were lost
   */
  events(timeoutMs: number): RawMessage[] {
    const datagram = this.transport.receive(timeoutMs);
    return datagram === undefined ? [] : readMessages(datagram);
  }

  close(): void {
    this.transport.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #send(requests: readonly AnyRequest[], flagsOf: (index: number) => number): Sent {
    const writer = new Writer(1024);
    const ranges: { readonly start: number; readonly end: number }[] = [];
    const firstSequence = this.#sequence;
    for (const request of requests) {
      ranges.push(writeMessage(writer, request, this.#sequence++, flagsOf(ranges.length)));
    }
    // Sequence 0 marks unsolicited messages; wrap before it is reached.
    if (this.#sequence > 0x7fff_ffff) this.#sequence = 1;
    const datagram = writer.done();
    this.transport.send(datagram);
    return {
      requests,
      firstSequence,
      bytesOf: (index) => datagram.subarray(ranges[index]!.start, ranges[index]!.end),
    };
  }

  /** Reads until every sent request has its acknowledgement or error. */
  #collect(
    sent: Sent,
    onAnswer: (raw: RawMessage) => void,
    onError?: (index: number, error: Error) => void,
  ): void {
    let open = sent.requests.length;
    let failure: Error | undefined;
    while (open > 0) {
      for (const raw of this.#receive(sent.requests[sent.requests.length - open]!)) {
        const index = raw.sequence - sent.firstSequence;
        const request = sent.requests[index];
        if (request === undefined) continue;
        if (raw.type === NLMSG_ERROR) {
          open--;
          if (errorNumber(raw) === 0) continue;
          const error = netlinkError(raw, request.doing, request.message, sent.bytesOf(index));
          if (onError === undefined) failure ??= error;
          else onError(index, error);
        } else if (raw.type !== NLMSG_NOOP && raw.type !== NLMSG_DONE) onAnswer(raw);
      }
    }
    if (failure !== undefined) throw failure;
  }

  #receive(request: AnyRequest): RawMessage[] {
    const datagram = this.transport.receive(ANSWER_TIMEOUT_MS);
    if (datagram === undefined) throw noAnswer(request);
    const messages = readMessages(datagram);
    for (const raw of messages) if (raw.type === NLMSG_OVERRUN) throw new SystemError("recv", ERRNO.ENOBUFS);
    return messages;
  }

  /** Reads what is left of a dump that nobody wants any more, so that the next request finds an empty queue. */
  #drain(sequence: number, last: Uint8Array | undefined): void {
    try {
      // The datagram at which the reader stopped may have been the last one.
      let datagram = last ?? this.transport.receive(DRAIN_TIMEOUT_MS);
      while (datagram !== undefined && endOfDump(datagram, sequence) === undefined) {
        datagram = this.transport.receive(DRAIN_TIMEOUT_MS);
      }
    } catch (error) {
      if (!(error instanceof SystemError) && !(error instanceof DecodeError)) throw error;
    }
  }
}

interface Sent {
  readonly requests: readonly AnyRequest[];
  readonly firstSequence: number;
  readonly bytesOf: (index: number) => Uint8Array;
}

/** Sees the payload of one message: `wire` from `start` to `end`. */
export type DumpVisitor = (wire: Wire, start: number, end: number) => void;

interface DumpInProgress {
  readonly sequence: number;
  interrupted: boolean;
  /** The message that ended it. */
  end: RawMessage | undefined;
}

/**
 * Shows the visitor the messages of one datagram. On its own because a loop over the whole dump would be compiled once
 * more while it runs, at a tenth of the dump's cost.
 */
function visitDatagram(datagram: Uint8Array, dump: DumpInProgress, visitor: DumpVisitor): void {
  const wire = new Wire(datagram);
  for (let at = 0; at < datagram.length;) {
    const length = messageLength(wire, at);
    if (wire.view.getUint32(at + 8, true) === dump.sequence) {
      const type = wire.view.getUint16(at + 4, true);
      if ((wire.view.getUint16(at + 6, true) & NLM_F_DUMP_INTR) !== 0) dump.interrupted = true;
      if (type >= NLMSG_MIN_TYPE) visitor(wire, at + NLMSG_HDRLEN, at + length);
      else if (type === NLMSG_OVERRUN) throw new SystemError("recv", ERRNO.ENOBUFS);
      else if (type !== NLMSG_NOOP) {
        dump.end = endOfDump(datagram.subarray(at), dump.sequence);
        return;
      }
    }
    at += align4(length);
  }
}

/** The message that ends the dump, if it is in this datagram. */
function endOfDump(datagram: Uint8Array, sequence: number): RawMessage | undefined {
  for (const raw of readMessages(datagram)) {
    if (raw.sequence === sequence && (raw.type === NLMSG_DONE || raw.type === NLMSG_ERROR)) return raw;
  }
  return undefined;
}

function noAnswer(request: AnyRequest): SystemError {
  return new SystemError(request.message.name, ERRNO.ETIMEDOUT, `(${request.doing}) got no answer`);
}
