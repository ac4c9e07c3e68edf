/** Keeps forwarding on for the families that pods need. */
import { enableForwarding } from "../../forwarding/forwarding.ts";
import type { NetworkNamespace } from "../../kernel/namespace.ts";
import type { Desired } from "../desired.ts";
import type { ReconcileStep, Repair } from "./step.ts";

export class ForwardingStep implements ReconcileStep {
  readonly name = "forwarding";

  constructor(
    private readonly node: NetworkNamespace,
    private readonly wanted: () => Desired,
  ) {}

  run(): Repair[] {
    return enableForwarding(this.node, this.wanted().forwarding).map(({ name, before, reason }): Repair => ({
      step: this.name,
      object: name,
      found: `${name} was ${before}${reason === undefined ? "" : ` (${reason})`}`,
    }));
  }
}
