/** Keeps forwarding on for the families that pods need. */
import { enableForwarding, isForwardingOn } from "../../forwarding/forwarding.ts";
import type { NetworkNamespace } from "../../kernel/namespace.ts";
import { Rtnetlink } from "../../kernel/route/rtnetlink.ts";
import type { Desired } from "../desired.ts";
import type { ReconcileStep, Repair } from "./step.ts";

export class ForwardingStep implements ReconcileStep, Disposable {
  readonly name = "forwarding";
  readonly #route: Rtnetlink;

  constructor(
    private readonly node: NetworkNamespace,
    private readonly wanted: () => Desired,
  ) {
    this.#route = Rtnetlink.open(node);
  }

  run(): Repair[] {
    const { forwarding } = this.wanted();
    if (isForwardingOn(this.#route, forwarding)) return [];
    return enableForwarding(this.node, forwarding).map(({ name, before, reason }): Repair => ({
      step: this.name,
      object: name,
      found: `${name} was ${before}${reason === undefined ? "" : ` (${reason})`}`,
    }));
  }

  [Symbol.dispose](): void {
    this.#route.close();
  }
}
