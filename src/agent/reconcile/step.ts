/** What the agent keeps true, one kind of thing a step. */

/** One thing that was not as it shall be, and is again. */
export interface Repair {
  /** The step that found it. */
  readonly step: string;
  /** What was mended: `map inet wayout egress4`, `net.ipv4.ip_forward`. Two repairs of one thing have the same text. */
  readonly object: string;
  /** A sentence: what was found. */
  readonly found: string;
}

export interface ReconcileStep {
  readonly name: string;
  /**
   * Compares, and mends what differs; empty when all was well. It stands alone: whether another step failed makes no
   * difference to it.
   * @throws WayoutError what could not be mended
   */
  run(): readonly Repair[];
}
