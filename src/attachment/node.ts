import { NetworkNamespace } from "../kernel/namespace.ts";
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { AttachmentStore } from "./store.ts";

/** The network namespace we run in, as the place that pods are attached to. */
export class AttachmentNode implements Disposable {
  private constructor(
    readonly namespace: NetworkNamespace,
    readonly route: Rtnetlink,
    readonly store: AttachmentStore,
  ) {}

  static open(): AttachmentNode {
    const namespace = NetworkNamespace.current();
    return new AttachmentNode(namespace, Rtnetlink.open(namespace), new AttachmentStore(namespace));
  }

  [Symbol.dispose](): void {
    this.route.close();
    this.namespace.close();
  }
}
