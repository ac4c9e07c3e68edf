import { NetworkNamespace } from "../kernel/namespace.ts";
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { AttachmentStore } from "./store.ts";

/** The network namespace we run in, as the place that pods are attached to. */
export class AttachmentNode implements Disposable {
  readonly store: AttachmentStore;

  constructor(
    readonly namespace: NetworkNamespace,
    readonly route: Rtnetlink,
  ) {
    this.store = new AttachmentStore(namespace);
  }

  static open(): AttachmentNode {
    const namespace = NetworkNamespace.current();
    // Without naming it: entering even one's own namespace takes a privilege that reading does not.
    return new AttachmentNode(namespace, Rtnetlink.open());
  }

  [Symbol.dispose](): void {
    this.route.close();
    this.namespace.close();
  }
}
