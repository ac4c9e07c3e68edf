/** The process that acts the story: it builds the world in namespaces nobody else sees, and takes it down again. */
import { closeSync } from "node:fs";
import { CHAPTERS } from "./chapters/all.ts";
import { settleInRealm } from "./realm.ts";
import { act, tellThrough } from "./story.ts";
import { buildWorld, startInternet, World } from "./world.ts";

/** @param pipe the descriptor to tell through */
export async function actStory(pipe: number): Promise<void> {
  settleInRealm();
  buildWorld();
  startInternet();
  using world = new World();
  await act(CHAPTERS, world, tellThrough(pipe));
  closeSync(pipe);
}
