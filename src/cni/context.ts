/** What every command works with: the call, the configuration as far as it is read, and the node. */
import { NetworkNamespace } from "../kernel/namespace.ts";
import { LinkRtnetlink } from "../kernel/route/link-rtnetlink.ts";
import type { AddressOwner } from "../ipam/assignment.ts";
import { addressManagement, type AddressManagement } from "./address-management.ts";
import type { CniCall } from "./call.ts";
import type { NetworkHeader } from "./configuration.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

export class CniContext implements Disposable {
  readonly namespace = NetworkNamespace.current();
  #node: LinkRtnetlink | undefined;

  constructor(
    readonly call: CniCall,
    readonly header: NetworkHeader,
    readonly environment: Environment,
  ) {}

  get node(): LinkRtnetlink {
    return (this.#node ??= LinkRtnetlink.open(this.namespace));
  }

  get owner(): AddressOwner {
    return { container: this.call.container, interfaceName: this.call.interfaceName };
  }

  /** The names by which a pod's link is found again. */
  get linkNames() {
    const { container, interfaceName } = this.call;
    return { network: this.header.network, container, interfaceName };
  }

  /** undefined for a layer 2 network. @throws FieldError */
  addresses(forCleanUp = false): AddressManagement | undefined {
    return addressManagement(this.header, this.call, this.environment, forCleanUp);
  }

  [Symbol.dispose](): void {
    this.#node?.close();
    this.namespace.close();
  }
}
