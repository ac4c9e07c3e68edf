/** The hidden command that draws up the node's picture, for the namespace in which it runs. */
export const PAINTER = "agent-picture";
