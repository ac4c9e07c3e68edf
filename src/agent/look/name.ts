/** The hidden command that takes a look at the namespace in which it runs. */
export const LOOKER = "agent-look";
