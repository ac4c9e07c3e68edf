import { Command } from "commander";
import { askAgent } from "../agent/ask.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { openNamespace } from "../pods/open-namespace.ts";
import { noAgent } from "./agent-said.ts";
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
      const url = await addressFrom(node);
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
async function addressFrom(node: NetworkNamespace): Promise<string> {
  const said = await askAgent<{ readonly url: string }>(node, "/v1/page/code", { method: "POST" });
  if (said.kind === "answer") return said.value.url;
  if (said.kind === "refusal") throw said.error;
  throw noAgent("asking the agent for its page", said, "sudo wayout agent --listen 127.0.0.1:7070");
}
