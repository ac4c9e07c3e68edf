/** The process that acts the story: it builds the world in namespaces nobody else sees, and takes it down again. */
import { closeSync } from "node:fs";
import { CHAPTERS } from "./chapters/all.ts";
import { settleInRealm, worldFailure } from "./realm.ts";
import { act, tellThrough } from "./story.ts";
import { buildWorld, startInternet, World } from "./world.ts";
import { present } from "../present.ts";

/** @param pipe the descriptor to tell through */
export async function actStory(pipe: number): Promise<void> {
  const tell = tellThrough(pipe);
  try {
    settleInRealm();
    buildWorld();
    startInternet();
  } catch (error) {
    const { code, kind, doing, said, todo } = worldFailure("building the world of the story", error);
    tell(present({ type: "impossible", code, kind, doing, said, todo }));
    return;
  }
  using world = new World();
  await act(CHAPTERS, world, tell);
  closeSync(pipe);
}
