/** What the kernel announces of the node: rules, links, addresses, routes, policy rules, forwarding. */
import { EventThread } from "../kernel/netlink/event-thread.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { NETLINK_NETFILTER, NETLINK_ROUTE } from "../kernel/netlink/transport.ts";
import { routeEventOf, RTNLGRP, type RouteEvent } from "../kernel/route/watch.ts";
import { decode, readMessages, type RawMessage } from "../linux/netlink/message.ts";
import { NFT_MSG_NEWGEN } from "../linux/nftables/generation.ts";
import { NFNLGRP_NFTABLES } from "../linux/nftables/messages.ts";
import { RTM_NEWNETCONF, turnedSettingOf, type TurnedSetting } from "../linux/route/netconf.ts";
import { DecodeError } from "../linux/netlink/wire.ts";
import { present } from "../present.ts";

/** With the number of the netlink socket that asked for it; 0: the kernel itself, or nobody says. */
export type HeardChange = RouteEvent & { readonly port: number };

export type NodeEvent =
  /** A transaction of nf_tables, with the process that made it as the kernel names it. */
  | { readonly kind: "rules"; readonly generation: number; readonly pid?: number; readonly process?: string }
  /** Rules of iptables-legacy are others than before: nobody announces it, and nobody says who did it. */
  | { readonly kind: "legacy" }
  /** A setting that nobody announces has another value. */
  | { readonly kind: "sysctl"; readonly name: string; readonly before: string; readonly value: string }
  /** Links, addresses, routes or policy rules. */
  | { readonly kind: "network"; readonly changes: readonly HeardChange[] }
  /** A switch under /proc/sys/net/…/conf. */
  | { readonly kind: "setting"; readonly turned: readonly TurnedSetting[] }
  /** Something changed here, or in a pod: nothing to note, but a reason to look. */
  | { readonly kind: "any" }
  /** Events were lost: everything may have changed. */
  | { readonly kind: "lost" };

/** Listens until it is closed. Every event is handed over once, in the order in which its socket had it. */
export class NodeEvents {
  readonly #threads: readonly EventThread[];

  /** @throws SystemError EPERM without privilege over the namespace */
  constructor(namespace: NetworkNamespace, each: (event: NodeEvent) => void, receiveBufferBytes?: number) {
    const room = receiveBufferBytes === undefined ? {} : { receiveBufferBytes };
    const lost = (): void => each({ kind: "lost" });
    const groups = [
      ...RTNLGRP.links,
      ...RTNLGRP.addresses,
      ...RTNLGRP.routes,
      ...RTNLGRP.rules,
      ...RTNLGRP.settings,
    ];
    this.#threads = [
      new EventThread(NETLINK_NETFILTER, {
        namespace,
        ...room,
        groups: [NFNLGRP_NFTABLES],
        each: (datagram) => generationsIn(datagram).forEach(each),
        lost,
      }),
      new EventThread(NETLINK_ROUTE, {
        namespace,
        ...room,
        groups,
        each: (datagram) => routeEventsIn(datagram).forEach(each),
        lost,
      }),
    ];
  }

  async close(): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.close()));
  }
}

/** Of a transaction's many messages only the last, which ends it, is an event. */
function generationsIn(datagram: Uint8Array): NodeEvent[] {
  return readMessages(datagram)
    .filter(({ type }) => type === NFT_MSG_NEWGEN.type)
    .map((raw): NodeEvent => {
      const { id = 0, pid, name } = decode(NFT_MSG_NEWGEN, raw).attributes;
      return present({
        kind: "rules",
        generation: id,
        pid,
        process: name,
      });
    });
}

function routeEventsIn(datagram: Uint8Array): NodeEvent[] {
  const messages = readMessages(datagram);
  const settings = messages.filter(({ type }) => type === RTM_NEWNETCONF.type);
  const others = messages.filter(({ type }) => type !== RTM_NEWNETCONF.type);
  return [
    ...(settings.length === 0 ? [] : [{ kind: "setting", turned: readable(settings, turnedIn) } as const]),
    ...(others.length === 0 ? [] : [{ kind: "network", changes: readable(others, heardChangeOf) } as const]),
  ];
}

function heardChangeOf(raw: RawMessage): HeardChange | undefined {
  const event = routeEventOf(raw);
  return event && { ...event, port: raw.portId };
}

function turnedIn(raw: RawMessage): TurnedSetting | undefined {
  return turnedSettingOf(decode(RTM_NEWNETCONF, raw));
}

/** That something changed counts even where it cannot be read what. */
function readable<T>(messages: readonly RawMessage[], read: (raw: RawMessage) => T | undefined): T[] {
  return messages.flatMap((raw) => {
    try {
      return read(raw) ?? [];
    } catch (error) {
      if (error instanceof DecodeError) return [];
      throw error;
    }
  });
}
