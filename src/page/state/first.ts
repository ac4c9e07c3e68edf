/**
 * What came with the page: who is in gets what is shown first in the document itself, so that nothing has to be asked for
 * before something is seen.
 */
import type { NodePicture } from "../../agent/picture/picture.ts";
import { visibleValue } from "../../text/visible.ts";
import type { AgentAnswer } from "./agent-answer.ts";

interface First {
  readonly node: AgentAnswer;
  /** Absent when the agent has not looked at the node yet. */
  readonly picture?: NodePicture;
}

/** undefined: this browser is not known to be in. */
export const first: First | undefined = read();

function read(): First | undefined {
  const text = document.getElementById("first")?.textContent;
  return text === undefined ? undefined : visibleValue(JSON.parse(text) as First);
}

/** Calls back when what was rendered has been painted, or nobody looks. */
export function whenPainted(then: () => void): void {
  const late = setTimeout(then, LATEST_MS);
  requestAnimationFrame(() =>
    setTimeout(() => {
      clearTimeout(late);
      then();
    }),
  );
}

/** A page that is not visible is never painted. */
const LATEST_MS = 400;
