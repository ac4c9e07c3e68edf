/** `lab up --page`: an agent over the lab's node, which shows it in a browser and lets people break and mend it there. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { agentLog } from "../agent/log.ts";
import { AgentService, parseListen } from "../agent/service.ts";
import { WayoutError } from "../error.ts";
import { labUp } from "../lab/house.ts";
import { PLAN } from "../lab/plan.ts";
import { isRoot } from "../lab/realm.ts";
import { openNamespace } from "../pods/open-namespace.ts";
import { openInBrowser } from "./browser.ts";
import { Interruption } from "./interruption.ts";
import { printJsonLine, tell } from "./output.ts";
import { pageText } from "./page.ts";
import { style } from "./style.ts";

interface Options {
  readonly wayOut: boolean;
  readonly listen: string;
  readonly json?: true;
}

/** Until somebody ends it. The lab stays, its journal and its token go. @throws WayoutError `no-privilege`, `port-in-use` */
export async function showLabPage({ wayOut, listen, json }: Options): Promise<void> {
  requireRoot();
  const { change } = await labUp(wayOut);
  const directory = mkdtempSync(join(tmpdir(), "wayout-lab-"));
  try {
    using stop = new Interruption();
    using node = openNamespace(PLAN.node.namespace);
    const service = await AgentService.start({
      node,
      log: agentLog("text", () => {}),
      journal: join(directory, "journal.db"),
      tokenPath: join(directory, "token"),
      listen: parseListen(listen),
      hosts: [],
      remotePeers: false,
      looks: true,
      lab: { destination: `${PLAN.internet.httpIpv4}:80` },
    });
    const url = service.pageUrl()!;
    if (json === true) printJsonLine({ change, url });
    else tell(labPageText, pageText(url, openInBrowser(url)));
    await new Promise((resolve) => stop.signal.addEventListener("abort", resolve, { once: true }));
    await service.stop();
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function labPageText(page: string): string {
  return `${style.good("✓")} The lab is up, and its page with it, until Ctrl-C.\n\n${page}${style.quiet(
    `Another browser: sudo wayout page --netns ${PLAN.node.namespace}. Afterwards: sudo wayout lab down`,
  )}\n`;
}

/** An ordinary user's lab lies in a network of its own, in which no browser is. */
function requireRoot(): void {
  if (isRoot()) return;
  throw new WayoutError({
    code: "no-privilege",
    kind: "machine",
    doing: "showing the lab in a browser",
    said: "an ordinary user's lab has a network of its own, which no browser can reach",
    todo: "Run it as root: sudo wayout lab up --page. Without root: wayout lab up, and wayout doctor ns-blue.",
  });
}
