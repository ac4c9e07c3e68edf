/** The kinds under which the agent's journal keeps events. Files of other versions hold them, and the page asks for them. */

/**
 * `rules`, `network`, `setting`: what others changed; `repair`, `failure`, `fight`: what the agent did or could not do;
 * `way-out`: what became of a pod; `policy`, `agent`.
 */
export const EVENT_KINDS = [
  "rules",
  "network",
  "setting",
  "repair",
  "failure",
  "fight",
  "way-out",
  "policy",
  "agent",
] as const;
