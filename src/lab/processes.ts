/** Hidden commands: the processes that the lab starts of itself, by name. The argument of each stands beside it. */
export const LAB_PROCESSES = {
  /** Acts the story; the descriptor of the pipe to tell through. */
  story: "lab-story",
  /** Keeps an ordinary user's namespaces; the descriptors to talk to its parent through. */
  keeper: "lab-keep",
  /** Serves the internet; the descriptors to talk to its parent through. */
  internet: "lab-internet",
  /** Visits a site; the visit's options as JSON. */
  visit: "lab-visit",
} as const;
