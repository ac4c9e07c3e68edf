/** Running the story: a process in throw-away namespaces acts it, this one listens and checks that nothing is left. */
import { closeSync, readSync } from "node:fs";
import * as libc from "../kernel/libc.ts";
import { selfCommand } from "../self.ts";
import { spawnInRealm, waitForRealm } from "./realm.ts";
import { LAB_PROCESSES } from "./processes.ts";
import { compareMachine, readMachine } from "./machine.ts";
import { StoryRecord, type StoryEvent, type StoryReport } from "./story.ts";

/**
 * Acts the whole story and returns what came of it.
 * @param show called with every event as it happens
 * @throws WayoutError when this machine or user cannot have the namespaces
 */
export function playStory(show: (event: StoryEvent) => void): StoryReport {
  const before = readMachine();
  const record = new StoryRecord();
  const note = (event: StoryEvent): void => {
    record.add(event);
    show(event);
  };
  const pipe = libc.pipe();
  const pid = spawnInRealm([...selfCommand(), LAB_PROCESSES.story, String(pipe.writeEnd)], {
    keep: [pipe.writeEnd],
  });
  closeSync(pipe.writeEnd);
  try {
    for (const event of eventsFrom(pipe.readEnd)) {
      // The actor's last word comes when its world is down; what is left then is seen from here.
      if (event.type !== "done") note(event);
    }
  } finally {
    closeSync(pipe.readEnd);
  }
  const exitCode = waitForRealm(pid);
  note({ type: "step", ...compareMachine(before, readMachine()) });
  if (exitCode === 0) note({ type: "done" });
  return record.report();
}

/** Events from a pipe until its other end is closed. */
function* eventsFrom(fd: number): Generator<StoryEvent> {
  const chunk = Buffer.alloc(65_536);
  let rest = "";
  for (;;) {
    const length = readSync(fd, chunk);
    if (length === 0) return;
    const lines = (rest + chunk.toString("utf8", 0, length)).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) yield JSON.parse(line) as StoryEvent;
  }
}
