import { addressOf } from "../address/ip.ts";
import { command, commandIn, type CommandLine } from "../text/command.ts";
import { Command, Option } from "commander";
import { attach, type Attached } from "../attachment/attach.ts";
import { detach } from "../attachment/detach.ts";
import { AttachmentNode } from "../attachment/node.ts";
import type { Outside } from "../ways-out/outside.ts";
import { pathOfLabel, type AttachRequest } from "../attachment/request.ts";
import { WayoutError } from "../error.ts";
import { requireNat } from "../nat/open.ts";
import { DEFAULT_BACKEND, NAT_BACKENDS, type NatBackendName } from "../nat/backends/backends.ts";
import { Interruption } from "./interruption.ts";
import { printJson, tell } from "./output.ts";
import { style, table } from "./style.ts";
import { present } from "../present.ts";

const HELP = `
What it makes, unless it is there: the bridge wayout0 with a subnet that overlaps no route or address of this machine, a
veth pair into the namespace, a default route, forwarding, and MASQUERADE in rules of its own. Several namespaces share
the bridge. The last 'wayout detach' takes all of it away and puts back what was before.

Examples:
  wayout attach blue                     the namespace that 'ip netns' calls blue
  wayout attach blue --create            make it first
  wayout attach blue --snat 203.0.113.9  leave with this address instead of the interface's own
  wayout attach /proc/4711/ns/net        the namespace of a process
  ip netns exec blue curl -I http://…    a command in it`;

interface AttachOptions {
  readonly create?: true;
  readonly bridge?: string;
  readonly subnet?: readonly string[];
  readonly ip?: readonly string[];
  readonly interface?: string;
  /** commander: --ipv6 true, --no-ipv6 false, neither undefined. */
  readonly ipv6?: boolean;
  readonly backend?: NatBackendName;
  readonly snat?: readonly string[];
  readonly dns?: readonly string[];
  readonly json?: true;
}

/** `wayout attach NS`. */
export function attachCommand(): Command {
  return new Command("attach")
    .description("give a network namespace of this machine a way out")
    .argument("<namespace>", "a name that 'ip netns' shows, or the path of a namespace")
    .option("--create", "make the namespace when it is missing; detach removes it again")
    .option("--bridge <name>", "the bridge to attach it to (default: wayout0)")
    .option("--subnet <cidr...>", "the bridge's subnet, one for each family (default: a free one)")
    .option("--ip <address...>", "the namespace's address, one for each family (default: the next free one)")
    .option("--interface <name>", "the interface's name in the namespace (default: eth0)")
    .option("--snat <address...>", "leave with this fixed address, one for each family (default: MASQUERADE)")
    .addOption(
      new Option("--backend <name>", `what translates (default: ${DEFAULT_BACKEND})`).choices([
        ...NAT_BACKENDS,
      ]),
    )
    .option("--ipv6", "also over IPv6 (default: when this machine has an IPv6 default route)")
    .option("--no-ipv6", "IPv4 only")
    .option("--dns <address...>", "name servers, for /etc/netns/NAME/resolv.conf")
    .option("--json", "one JSON value")
    .addHelpText("after", HELP)
    .action(async (namespace: string, options: AttachOptions) => {
      using node = AttachmentNode.open();
      if (options.backend !== undefined)
        requireNat(options.backend, node.namespace, `attaching ${namespace}`);
      using interruption = new Interruption();
      const attached = await attach(node, requestOf(namespace, options), interruption.signal);
      if (await interruption.happened()) await giveUp(node, namespace, attached);
      const obstacles = await obstaclesOf(attached);
      if (options.json === true) printJson({ ...jsonOf(attached), obstacles });
      else tell(attachedText, attached, obstacles, commandsFor(attached.attachment.label));
    });
}

function requestOf(namespace: string, options: AttachOptions): AttachRequest {
  const { create, bridge, subnet, ip, ipv6, backend, snat, dns } = options;
  return present({
    namespace,
    create,
    bridge,
    subnets: subnet,
    addresses: ip,
    interfaceName: options.interface,
    ipv6,
    backend,
    snat,
    nameServers: dns,
  });
}

/** Ctrl-C while it was made: the person does not want it. What was there before stays. */
async function giveUp(node: AttachmentNode, namespace: string, attached: Attached): Promise<never> {
  const isNew = attached.changed && attached.mended.length === 0;
  if (isNew) await detach(node, namespace);
  throw new WayoutError({
    code: "interrupted",
    kind: "broken",
    doing: `attaching ${namespace}`,
    said: `interrupted; ${isNew ? "everything was undone" : "it stays attached, as it was"}`,
  });
}

/**
 * What will stop the namespace's packets all the same: mostly other programs' filter rules, which are not ours to
 * change. Predicted from the node's tables; nothing is sent.
 */
async function obstaclesOf({ attachment, outside }: Attached): Promise<Obstacle[]> {
  // Without a way of its own the node stops everything, and the notes say so already.
  if (outside.every((one) => one.interface === undefined)) return [];
  try {
    // Loaded only now: the doctor is the larger part of this program, and the attachment does not depend on it.
    const { examine } = await import("../examination/examine.ts");
    const { diagnoses } = examine({ pod: attachment.label, silent: true });
    return diagnoses
      .flatMap(({ findings }) => findings)
      .filter(({ stopsTraffic }) => stopsTraffic)
      .map(({ code, text, fix }) => ({ code, text, fix: fix.map(({ command }) => command) }));
  } catch {
    // The attachment stands; the doctor tells more, and why it could not tell.
    return [];
  }
}

interface Obstacle {
  readonly code: string;
  readonly text: string;
  /** Commands to paste. */
  readonly fix: readonly CommandLine[];
}

function jsonOf({ attachment, network, changed, mended, outside, notes }: Attached) {
  return {
    namespace: attachment.label,
    path: attachment.path,
    created: attachment.created,
    bridge: attachment.bridge,
    interface: attachment.interface,
    hostInterface: attachment.hostInterface,
    addresses: attachment.addresses,
    gateways: network.gateways,
    backend: network.backend,
    snat: attachment.snat,
    outside,
    changed,
    mended,
    notes,
  };
}

/** Composed of the name as it is: as it is shown, it may be another one. Empty where it cannot be typed. */
function commandsFor(label: string): { readonly enter: string; readonly undo: string } {
  return {
    enter: commandIn(pathOfLabel(label), command`COMMAND`) ?? "",
    undo: command`wayout detach ${label}` ?? "",
  };
}

function attachedText(
  attached: Attached,
  obstacles: readonly Obstacle[],
  { enter, undo }: ReturnType<typeof commandsFor>,
): string {
  const { attachment, network, changed, mended, outside, notes } = attached;
  const { label } = attachment;
  const name = style.strong(label);
  const head = !changed
    ? `${name} is attached already; nothing was changed.`
    : mended.length > 0
      ? `${name} was broken (${mended.map(({ text }) => text).join("; ")}) and is repaired.`
      : `${name} ${attachment.created ? "was made and is attached" : "is attached"}.`;
  const rows = [
    ["address", attachment.addresses.map(style.address).join(", ")],
    [
      "link",
      `${attachment.interface} ${style.quiet("↔")} ${attachment.hostInterface} in ${attachment.bridge}`,
    ],
    ["gateway", network.gateways.map((gateway) => style.address(addressOf(gateway))).join(", ")],
    ["seen as", outside.map((one) => outsideText(one, network.backend)).join(", ")],
    ...(enter === "" ? [] : [["use it", style.command(enter)]]),
    ...(undo === "" ? [] : [["undo", style.command(undo)]]),
  ];
  const lines = table(rows.map(([key, value]) => [` ${style.quiet(key!)}`, value!]));
  const said = notes.map((note) => `${style.warn("!")} ${note}\n`).join("");
  return `${style.good("✓")} ${head}\n${lines}\n${said}${obstacles.map(obstacleText).join("")}`;
}

function obstacleText({ text, fix }: Obstacle): string {
  const ways = fix.map((line) => `  ${style.hint("→")} ${style.command(line)}\n`).join("");
  return `${style.bad("✗")} It cannot reach the outside yet: ${text}\n${ways}`;
}

function outsideText(outside: Outside, backend: NatBackendName): string {
  const { translation, address } = outside;
  const through = outside.interface === undefined ? "" : ` of ${outside.interface}`;
  const how = { masquerade: "MASQUERADE", snat: "SNAT", none: "no translation" }[translation];
  const by = translation === "none" ? how : `${how}, ${backend}`;
  if (translation === "none") return `its own address ${style.quiet(`(${by})`)}`;
  const seen = address === undefined ? "the outgoing interface's address" : style.address(address);
  return `${seen}${translation === "masquerade" ? through : ""} ${style.quiet(`(${by})`)}`;
}
