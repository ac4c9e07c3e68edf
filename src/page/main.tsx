/**
 * Room `page/`: the page that the agent serves: a person sees the way out, and why it is broken.
 *
 *     state/     what is known and what is looked at: the agent's API, its events, the address bar, keys
 *     layout/    where everything stands on the picture: pure, from state to coordinates
 *     drawing/   what is seen: components, each from state alone
 *
 * The address bar holds what is looked at (state/address-bar.ts): a link leads to the same pod at the same moment. The page
 * knows the agent by its API alone; types are shared, code is not. Text from outside (names, comments, answers) is only
 * ever a text node, spelled out by `visible` where it holds what cannot be seen.
 *
 * In: the agent's API and its events, the address bar, keys and pointers.
 * Out: elements of the document; requests to the agent.
 * Touches: nothing of the machine: it runs in a browser.
 */
import { render } from "preact";
import { App } from "./drawing/app.tsx";
import { enter } from "./state/sign-in.ts";
import { listenToKeys } from "./state/keys.ts";
import { followAddressBar } from "./state/address-bar.ts";
import { first } from "./state/first.ts";
import { beginWith, startLooking } from "./state/looking.ts";

async function start(): Promise<void> {
  await enter();
  followAddressBar();
  listenToKeys();
  beginWith(first);
  render(<App />, document.body);
  startLooking();
}

void start();
