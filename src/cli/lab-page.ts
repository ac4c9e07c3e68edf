/** `lab up --page`: an agent over the lab's node, which shows it in a browser and lets people break and mend it there. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { agentLog } from "../agent/log.ts";
import { AgentService, parseListen, type ServiceOptions } from "../agent/service.ts";
import { labUp } from "../lab/up-and-down.ts";
import { PLAN } from "../lab/plan.ts";
import { whenKeeperEnds } from "../lab/keeper.ts";
import { isRoot } from "../lab/realm.ts";
import { openNamespace } from "../pods/open-namespace.ts";
import { openInBrowser } from "./browser.ts";
import { Interruption } from "./interruption.ts";
import { showBesideKeeper, socketIn, tellRaised, type RaisedPage } from "./lab-page-ordinary.ts";
import { printJsonLine, tell } from "./output.ts";
import { pageText } from "./page.ts";
import { style } from "./style.ts";

interface Options {
  readonly wayOut: boolean;
  readonly listen: string;
  readonly json?: true;
  /** Set for the one beside an ordinary user's keeper: the folder of its socket, and the address at which others see it. */
  readonly pageIn?: string;
  readonly pageUrl?: string;
}

/** Until it is ended. The lab stays, its journal and its token go. @throws WayoutError `no-user-namespace`, `port-in-use` */
export async function showLabPage(options: Options): Promise<void> {
  const { pageIn, pageUrl } = options;
  const tellPerson = (page: RaisedPage): void => {
    if (options.json === true) printJsonLine(page);
    else tell(labPageText, pageText(page.url, openInBrowser(page.url)));
  };
  if (!isRoot()) process.exitCode = await showBesideKeeper(options, tellPerson);
  else if (pageIn === undefined || pageUrl === undefined)
    await serve(options.wayOut, parseListen(options.listen), tellPerson);
  else
    await serve(options.wayOut, { unix: socketIn(pageIn), url: pageUrl }, (page) => tellRaised(pageIn, page));
}

async function serve(
  wayOut: boolean,
  listen: NonNullable<ServiceOptions["listen"]>,
  raised: (page: RaisedPage) => void,
): Promise<void> {
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
      listen,
      hosts: [],
      remotePeers: false,
      looks: true,
      lab: { destination: `${PLAN.internet.httpIpv4}:80` },
    });
    raised({ change, url: service.pageUrl()! });
    await new Promise<unknown>((resolve) => {
      stop.signal.addEventListener("abort", resolve, { once: true });
      whenKeeperEnds(() => resolve(undefined));
    });
    await service.stop();
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function labPageText(page: string): string {
  const own = isRoot();
  const [again, down] = own
    ? [`sudo wayout page --netns ${PLAN.node.namespace}`, "sudo wayout lab down"]
    : [`wayout lab exec ${PLAN.node.namespace} -- wayout page`, "wayout lab down"];
  return `${style.good("✓")} The lab is up, and its page with it, until Ctrl-C.\n\n${page}${style.quiet(
    `Another browser: ${again}. Afterwards: ${down}`,
  )}\n`;
}
