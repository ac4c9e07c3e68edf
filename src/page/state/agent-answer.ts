/** What the page reads of `/v1/node`. */
export interface AgentAnswer {
  readonly wayout: string;
  readonly since: string;
  readonly lab: boolean;
  /** Whether the agent looks at the node after each change by itself, and tells so. */
  readonly looks: boolean;
  /** Where a traced packet goes to, unless another is named. */
  readonly destination: string;
  readonly troubles: readonly { readonly step: string; readonly message: string }[];
}
