import { Command } from "commander";
import { attachedWaysOut } from "../attachment/inspect.ts";
import { AttachmentNode } from "../attachment/node.ts";
import type { Outside } from "../ways-out/outside.ts";
import { waysOut, type WayOutOfPod } from "../ways-out/ways-out.ts";
import { note, printJson, tell } from "./output.ts";
import { hostNetworkPods } from "../pods/host-network.ts";
import { hostNetworkText } from "./host-network-text.ts";
import { style, table } from "./style.ts";

const HELP = `
Attachments made by 'wayout attach', and pods that a CNI plugin connected (any plugin: libcni keeps their results under
/var/lib/cni/results). Each is checked: its namespace, link, address and route, the bridge, forwarding and NAT rules.
"seen as" is the source its packets have when they leave this machine. Exit code 1 when one of them is broken; then
'wayout attach NAME' repairs an attachment, and 'wayout doctor NAME' shows the cause. Exit code 3 when the results of a
runtime may only be read by root: pods may be missing from the list.`;

/** `wayout list`. */
export function listCommand(): Command {
  return new Command("list")
    .description("the namespaces with a way out on this machine, and whether it works")
    .option(
      "--json",
      "one JSON value: {namespaces: […], hostNetwork: [POD…]}, each with problems: [{code, text}]",
    )
    .addHelpText("after", HELP)
    .action((options: { readonly json?: true }) => {
      using node = AttachmentNode.open();
      const { pods: ways, unread } = waysOut(node, attachedWaysOut(node));
      const hostNetwork = hostNetworkPods().map(({ name }) => name);
      if (options.json === true) printJson({ namespaces: ways.map(jsonOf), unread, hostNetwork });
      else {
        tell(listText, ways, unread.length > 0);
        tell(hostNetworkText, hostNetwork);
      }
      if (options.json !== true) for (const { path, why } of unread) note(`skipped ${path}: ${why}`);
      if (ways.some((way) => stateOf(way) === "broken")) process.exitCode = 1;
      else if (unread.some(({ forbidden }) => forbidden)) process.exitCode = 3;
    });
}

function stateOf({ problems }: WayOutOfPod): "ok" | "broken" | "unknown" {
  if (problems === undefined) return "unknown";
  return problems.length === 0 ? "ok" : "broken";
}

function jsonOf(way: WayOutOfPod) {
  return { ...way, state: stateOf(way), problems: way.problems ?? [] };
}

/** @param inPart whether pods may be missing */
function listText(ways: readonly WayOutOfPod[], inPart: boolean): string {
  if (ways.length === 0 && inPart) return "Of what could be read nothing has a way out.\n";
  if (ways.length === 0) {
    return `No namespace on this machine has a way out by wayout or a CNI plugin yet.\n  ${style.command("wayout attach NAME --create")}\n`;
  }
  const head = ["namespace", "by", "address", "network", "seen as", "state"].map(style.quiet);
  return `${table([head, ...ways.flatMap(rowsOf)])}\n`;
}

/** One row an address; a second problem gets a row of its own. */
function rowsOf(way: WayOutOfPod): string[][] {
  const problems = way.problems ?? [];
  const count = Math.max(1, way.addresses.length, problems.length);
  return Array.from({ length: count }, (_, index) => {
    const isFirst = index === 0;
    const outside = way.outside[index];
    return [
      isFirst ? style.strong(way.name) : "",
      isFirst ? way.kind : "",
      style.address(way.addresses[index] ?? ""),
      isFirst ? networkText(way) : "",
      outside === undefined ? "" : outsideText(outside),
      isFirst && problems.length === 0 ? stateText(way) : problemText(problems[index]?.text),
    ];
  });
}

function networkText({ network, bridge, interface: name }: WayOutOfPod): string {
  const place = bridge === undefined || bridge === network ? network : `${network} (${bridge})`;
  return `${place} ${style.quiet(name)}`;
}

function outsideText(outside: Outside): string {
  if (outside.interface === undefined && outside.translation !== "snat")
    return style.warn("no default route");
  const seen = outside.address === undefined ? style.warn("no address") : style.address(outside.address);
  const how = outside.translation === "none" ? "untranslated" : outside.translation;
  const through = outside.interface === undefined ? "" : ` ${outside.interface}`;
  const programs = outside.byPrograms === true ? " (eBPF)" : "";
  return `${seen} ${style.quiet(`${how}${through}${programs}`)}`;
}

function stateText(way: WayOutOfPod): string {
  if (stateOf(way) === "ok") return style.good("✓ ok");
  return style.quiet(way.path === "" ? "? its runtime notes no namespace" : "? not root");
}

function problemText(problem: string | undefined): string {
  return problem === undefined ? "" : style.bad(`✗ ${problem}`);
}
