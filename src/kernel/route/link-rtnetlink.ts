/** The links of one namespace and their addresses: what it takes to make a pod's link and to take it away. */
import { ERRNO, SystemError } from "../../linux/errno.ts";
import type { NetworkNamespace } from "../namespace.ts";
import type { AttributeTable } from "../../linux/netlink/attributes.ts";
import { NetlinkConnection } from "../netlink/connection.ts";
import {
  decodeAt,
  request,
  type Message,
  type MessageSpec,
  type Request,
  type AnyRequest,
} from "../../linux/netlink/message.ts";
import { NetlinkError } from "../../linux/netlink/netlink-error.ts";
import { NETLINK_ROUTE, openTransport, type NetlinkTransport } from "../netlink/transport.ts";
import { utf8Length } from "../../platform/bytes.ts";
import {
  addAddressRequest,
  addressFromMessage,
  deleteAddressRequest,
  heldAddress,
  RTM_GETADDR,
  RTM_NEWADDR,
  RTM_NEWADDR_HELD,
  type Address,
  type AddressSpec,
  type HeldAddress,
} from "../../linux/route/address.ts";
import type { BridgeVlan } from "../../linux/route/bridge.ts";
import { AF_INET, AF_INET6 } from "../../linux/socket.ts";
import {
  RTEXT_FILTER_SKIP_STATS,
  RTM_GETLINK,
  RTM_NEWLINK_STATE,
} from "../../linux/route/link-attributes.ts";
import {
  addBridgeVlansRequest,
  createBridgeRequest,
  createVethRequest,
  deleteBridgeVlansRequest,
  deleteLinkRequest,
  getLinkRequest,
  setLinkRequest,
  type BridgeSpec,
  type LinkChange,
  type LinkReference,
  type VethSpec,
} from "../../linux/route/link-requests.ts";
import { linkStateOf, type LinkState } from "../../linux/route/link-state.ts";
import { namespaceIdRequest, NETNSA_NSID_NOT_ASSIGNED, RTM_NEWNSID } from "../../linux/route/namespace-id.ts";

/** What the kernel says when a thing to be deleted or read is not there. */
export const ABSENT: ReadonlySet<string> = new Set(["ENODEV", "ENOENT", "ESRCH", "EADDRNOTAVAIL"]);

const ATTEMPTS_TO_SEE = 3;

function askForStates(): Request {
  return request(RTM_GETLINK, "reading the links", {}, { extMask: RTEXT_FILTER_SKIP_STATS });
}

/**
 * Every method is synchronous and throws NetlinkError with the kernel's own words. An interface is an index;
 * `linkState(name)` finds it. Rtnetlink is this and all the rest; a plugin call makes do without.
 */
export class LinkRtnetlink implements Disposable {
  readonly connection: NetlinkConnection;

  /** @param namespace the one that the transport speaks to; the calling thread's when absent */
  constructor(
    transport: NetlinkTransport,
    readonly namespace?: NetworkNamespace,
  ) {
    this.connection = new NetlinkConnection(transport);
  }

  /** @param namespace the calling thread's when absent */
  static open<T extends LinkRtnetlink>(
    this: new (transport: NetlinkTransport, namespace?: NetworkNamespace) => T,
    namespace?: NetworkNamespace,
  ): T {
    return new this(openTransport(NETLINK_ROUTE, namespace === undefined ? {} : { namespace }), namespace);
  }

  /** Of every link. */
  linkStates(): LinkState[] {
    return this.connection.dump(askForStates(), RTM_NEWLINK_STATE).map(linkStateOf);
  }

  /**
   * The same where it is no reason to fail that links come and go faster than they can be read: a link that stays is seen in
   * one of a few attempts, and one that comes or goes meanwhile may be among them.
   */
  linkStatesSeen(): LinkState[] {
    const seen = new Map<number, LinkState>();
    for (let attempt = 0; attempt < ATTEMPTS_TO_SEE; attempt++) {
      const interrupted = this.connection.dumpEach(askForStates(), (wire, start, end) => {
        const state = linkStateOf(decodeAt(RTM_NEWLINK_STATE, wire, start, end));
        seen.set(state.index, state);
      });
      if (!interrupted) break;
    }
    return [...seen.values()];
  }

  /** undefined when there is no such link. */
  linkState(reference: LinkReference): LinkState | undefined {
    const message = this.askFor(reference, false, RTM_NEWLINK_STATE);
    return message === undefined ? undefined : linkStateOf(message);
  }

  protected askFor<H extends MessageSpec["header"], T extends AttributeTable>(
    reference: LinkReference,
    statistics: boolean,
    answer: MessageSpec<H, T>,
  ): Message<H, T> | undefined {
    // The kernel has no such name and says EINVAL or ERANGE of the question.
    if (typeof reference === "string" && (reference === "" || utf8Length(reference) > 127)) return undefined;
    try {
      const ask = getLinkRequest(reference, statistics ? 0 : RTEXT_FILTER_SKIP_STATS);
      return this.connection.question(ask, answer);
    } catch (error) {
      if (error instanceof NetlinkError && ABSENT.has(error.code)) return undefined;
      throw error;
    }
  }

  createVeth(spec: VethSpec): void {
    this.connection.request(createVethRequest(spec));
  }

  createBridge(spec: BridgeSpec): void {
    this.connection.request(createBridgeRequest(spec));
  }

  setLink(reference: LinkReference, change: LinkChange): void {
    const renames = change.name !== undefined && typeof reference === "string";
    const link = renames ? (this.linkState(reference)?.index ?? reference) : reference;
    if (typeof link === "string" && renames) throw noSuchLink(link);
    this.connection.request(setLinkRequest(link, change));
  }

  /** False when there was none. Waits for RCU: about 16 ms. */
  deleteLink(reference: LinkReference): boolean {
    return this.deletes(deleteLinkRequest(reference));
  }

  /** @param self VLANs of the bridge device itself rather than of a port */
  addBridgeVlans(index: number, vlans: readonly BridgeVlan[], self = false): void {
    this.connection.request(addBridgeVlansRequest(index, vlans, self));
  }

  deleteBridgeVlans(index: number, vlans: readonly BridgeVlan[], self = false): void {
    this.connection.request(deleteBridgeVlansRequest(index, vlans, self));
  }

  addresses(filter: { readonly family?: 4 | 6; readonly interface?: number } = {}): Address[] {
    const family = filter.family === undefined ? 0 : filter.family === 4 ? AF_INET : AF_INET6;
    const dump = request(RTM_GETADDR, "reading the addresses", { family, index: filter.interface ?? 0 }, {});
    const addresses: Address[] = [];
    for (const message of this.connection.dump(dump, RTM_NEWADDR)) {
      const address = addressFromMessage(message);
      if (address !== undefined) addresses.push(address);
    }
    return addresses;
  }

  /** The addresses of one interface, as far as it takes to compare them with what it should have. */
  heldAddresses(index: number): HeldAddress[] {
    const dump = request(RTM_GETADDR, "reading the addresses", { index }, {});
    const addresses: HeldAddress[] = [];
    for (const message of this.connection.dump(dump, RTM_NEWADDR_HELD)) {
      const address = heldAddress(message);
      if (address !== undefined) addresses.push(address);
    }
    return addresses;
  }

  addAddress(spec: AddressSpec): void {
    this.connection.request(addAddressRequest(spec));
  }

  deleteAddress(spec: Pick<AddressSpec, "interface" | "address" | "prefixLength">): boolean {
    return this.deletes(deleteAddressRequest(spec));
  }

  /** This namespace's number for the one of a file descriptor; undefined when it has none (yet). */
  namespaceId(namespaceFd: number): number | undefined {
    const { id } = this.connection.question(namespaceIdRequest(namespaceFd), RTM_NEWNSID).attributes;
    return id === NETNSA_NSID_NOT_ASSIGNED ? undefined : id;
  }

  /** Several requests in one datagram, in order; throws the first error, after all were tried. */
  batch(requests: readonly AnyRequest[]): void {
    this.connection.batch(requests);
  }

  /** The same, returning the errors by index. */
  batchResults(requests: readonly AnyRequest[]): Map<number, Error> {
    return this.connection.batchResults(requests);
  }

  close(): void {
    this.connection.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  protected deletes(request: Request): boolean {
    try {
      this.connection.request(request);
      return true;
    } catch (error) {
      if (isAbsent(error)) return false;
      throw error;
    }
  }
}

/** Whether an error says that the thing is not there. */
export function isAbsent(error: unknown): boolean {
  return error instanceof NetlinkError && ABSENT.has(error.code);
}

function noSuchLink(name: string): SystemError {
  return new SystemError("RTM_NEWLINK", ERRNO.ENODEV, `changing ${name}`);
}
