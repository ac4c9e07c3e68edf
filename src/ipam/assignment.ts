/** What an address management plugin hands back: the same values, whether host-local's files or a program said them. */

/** A route for the pod. Only `dst` and `gw` are known to versions of the protocol before 1.1. */
export interface AssignedRoute {
  /** Prefix. */
  readonly dst: string;
  /** Absent: the gateway of the address of the same family. */
  readonly gw?: string;
  readonly mtu?: number;
  readonly advmss?: number;
  readonly priority?: number;
  readonly table?: number;
  /** RT_SCOPE_*. */
  readonly scope?: number;
}

export interface AssignedAddress {
  /** With the prefix length of its subnet: "10.1.0.5/24". */
  readonly address: string;
  readonly gateway?: string;
}

export interface Dns {
  readonly nameservers?: readonly string[];
  readonly domain?: string;
  readonly search?: readonly string[];
  readonly options?: readonly string[];
}

export interface Assignment {
  readonly addresses: readonly AssignedAddress[];
  readonly routes: readonly AssignedRoute[];
  readonly dns: Dns;
}

/** Whom an address belongs to: one interface of one container. */
export interface AddressOwner {
  readonly container: string;
  readonly interfaceName: string;
}
