/** Matches that ask who sends a packet, or who waits for it. */
import type { Range, Wanted } from "../../../linux/xtables/describe.ts";
import type { cgroup, owner, socket } from "../../../linux/xtables/matches/sockets.ts";
import { isAny, listenerAt } from "../listeners.ts";
import type { Machine } from "../machine.ts";

type ValueOf<D extends { read: (...parameters: never) => unknown }> = ReturnType<D["read"]>;

/**
 * owner_mt. A packet without a socket of this namespace (what is forwarded, what the kernel itself sends) matches when
 * everything that is asked for is inverted.
 */
export function ownerMatches(machine: Machine, wanted: ValueOf<typeof owner>): boolean {
  const { match, inverted, uid, gid } = wanted;
  if (machine.packet.iif !== undefined) return match === inverted;
  // A socket is there: the inverted question for one does not match.
  if (wanted.socket?.not === true) return false;
  const { sender } = machine;
  const is = (part: Wanted<Range> | undefined, id: number | undefined, what: string): boolean => {
    if (part === undefined) return true;
    const { first, last } = part.value;
    return (id === undefined ? machine.ask(what) : id >= first && id <= last) !== part.not;
  };
  return is(uid, sender?.uid, "the user who sends") && is(gid, sender?.gid, "the group who sends");
}

/** socket_mt: a socket for the packet's own addresses; one that listens on any address counts only if it is asked to. */
export function socketMatches(
  machine: Machine,
  { transparent, noWildcard, restoreMark }: ValueOf<typeof socket>,
): boolean {
  const { packet, view } = machine;
  const { protocol, destination, destinationPort, iif } = packet;
  if (packet.reply) {
    // An established socket of this namespace gets it, if its address is here: what is forwarded has none.
    if (!view.fib.isLocal(destination)) return false;
    return machine.ask("an open socket of this namespace");
  }
  const found = listenerAt(view, { protocol, address: destination, port: destinationPort, iif });
  if (found === "none") return false;
  if (found === "unknown") return machine.ask("an open socket", false);
  if (transparent && found.transparent !== true) return false;
  if (isAny(found) && !noWildcard) return false;
  if (restoreMark) machine.unknownMark = { why: "the mark of a socket" };
  return true;
}

/** cgroup_mt: without a socket nothing matches. */
export function cgroupMatches(machine: Machine, wanted: ValueOf<typeof cgroup>): boolean {
  if (machine.packet.iif !== undefined) return false;
  const about =
    wanted.path === undefined ? "the class of the control group" : `control group ${wanted.path.value}`;
  return machine.ask(`whether ${about} sends`, (wanted.path ?? wanted.class)?.not === true);
}
