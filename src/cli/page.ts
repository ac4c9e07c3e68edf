import { Command } from "commander";
import { socketPath } from "../agent/service.ts";
import { messageOf, WayoutError } from "../error.ts";
import { openNamespace } from "../pods/open-namespace.ts";
import { openInBrowser } from "./browser.ts";
import { printJson, tell } from "./output.ts";
import { style } from "./style.ts";

const HELP = `
The address holds a code that lets one browser in, once, within a minute; after that the browser keeps a cookie for twelve
hours. The agent must answer over HTTP: sudo wayout agent --listen 127.0.0.1:7070

Examples:
  sudo wayout page             prints the address, and opens it where there is a browser
  sudo wayout page --no-open   prints it only; over ssh -L 7070:127.0.0.1:7070 it works as well`;

interface PageOptions {
  readonly netns?: string;
  readonly open: boolean;
  readonly json?: true;
}

/** `wayout page`. */
export function pageCommand(): Command {
  return new Command("page")
    .description("the agent's page in a browser: prints the address that lets you in")
    .option("--netns <netns|path>", "the network namespace of the agent's node; default: the current one")
    .option("--no-open", "print the address only")
    .option("--json", "one JSON value")
    .addHelpText("after", HELP)
    .action(async (options: PageOptions) => {
      using node = openNamespace(options.netns);
      const url = await addressFrom(socketPath(node));
      if (options.json === true) return printJson({ url });
      tell(pageText, url, options.open && openInBrowser(url));
    });
}

/** What is said of an address that was just made. */
export function pageText(url: string, opened: boolean): string {
  const how = opened ? "opened in your browser; if it did not, open the address" : "open it in a browser";
  return `${style.command(url)}\n${style.quiet(`${how}; it lets one in, within a minute`)}\n`;
}

/** @throws WayoutError `no-agent`, and what the agent refuses */
async function addressFrom(unix: string): Promise<string> {
  const doing = "asking the agent for its page";
  let answer: Response;
  try {
    answer = await fetch("http://agent/v1/page/code", { method: "POST", unix });
  } catch (error) {
    throw new WayoutError({
      code: "no-agent",
      kind: "machine",
      doing,
      said: `no agent of this node answers on ${unix}: ${messageOf(error)}`,
      todo: "Start one, as root: sudo wayout agent --listen 127.0.0.1:7070",
      cause: error,
    });
  }
  const said = (await answer.json()) as {
    url?: string;
    error?: { code: string; message: string; todo?: string };
  };
  if (said.url !== undefined) return said.url;
  const { code = "no-answer", message = `status ${answer.status}`, todo } = said.error ?? {};
  throw new WayoutError({
    code,
    kind: "usage",
    doing,
    said: message,
    ...(todo === undefined ? {} : { todo }),
  });
}
