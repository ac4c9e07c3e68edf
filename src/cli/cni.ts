import { Command } from "commander";
import { join } from "node:path";
import { readNetworks, type ConfiguredNetwork } from "../cni/configured-networks.ts";
import { readHeader } from "../cni/configuration.ts";
import { CniContext } from "../cni/context.ts";
import { gc, type Collected } from "../cni/gc.ts";
import { install, uninstall, type Installed } from "../cni/install.ts";
import { DEFAULT_BIN_DIRECTORY, DEFAULT_CONFIGURATION_DIRECTORY } from "../naming/cni-places.ts";
import { judgeAttachments, type Unproven } from "../cni/left-over.ts";
import { linksOf } from "../cni/network-state.ts";
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { cacheDirectories, readCaches } from "../pods/cni-cache.ts";
import { printJson, tell } from "./output.ts";
import { style } from "./style.ts";
import { present } from "../present.ts";

const HELP = `
As a CNI plugin (type "wayout") this very program connects pods for containerd, CRI-O, podman and Kubernetes. In a
network that uses the reference plugins, changing "type": "bridge" to "type": "wayout" is all there is to do.

What is wrong when CHECK or STATUS fails (codes 110 and 51) stands in the error's "details", first of all:
problems=CODE,CODE; and then what to do. The codes are those of 'wayout list --json', mostly the doctor's.

Examples:
  wayout cni install --subnet 10.213.0.0/24 --subnet fd00:213::/64
  wayout cni gc --dry-run
  wayout cni uninstall`;

interface Directories {
  readonly binDir: string;
  readonly confDir: string;
  readonly json?: true;
}

interface InstallOptions extends Directories {
  readonly name: string;
  readonly bridge: string;
  readonly subnet?: readonly string[];
  readonly mtu?: number;
  readonly masquerade: boolean;
}

const GC_HELP = `
A pod's interface is taken only when its runtime has forgotten it: the runtime's cache holds other pods of the network
and not this one, no process and no name holds its namespace, and it is older than ten minutes. An interface for
which that is not proven is named and stays.`;

interface GcOptions extends Directories {
  readonly dryRun?: true;
  readonly cacheDir?: readonly string[];
}

interface CollectedNetwork extends Collected {
  readonly network: string;
  /** What stays though nobody seems to use it. */
  readonly doubts: readonly Unproven[];
  /** Why nothing was judged, and nothing taken. */
  readonly refusal?: string;
}

/** `wayout cni install | uninstall | gc`. */
export function cniCommand(): Command {
  const command = new Command("cni").description("this program as a CNI plugin").addHelpText("after", HELP);
  withDirectories(command.command("install"))
    .description("put the plugin and a network in place; a network that is there is kept")
    .option("--name <network>", "name of the network", "wayout")
    .option("--bridge <name>", "its bridge", "cni0")
    .option("--subnet <cidr>", "its subnet, once for each family (default: a free one)", collect)
    .option("--mtu <bytes>", "MTU of the pods' interfaces (default: the kernel's)", Number)
    .option(
      "--no-masquerade",
      "do not translate: the network outside has a route back to the pods' addresses",
    )
    .action((options: InstallOptions) => {
      const installed = install(
        present({
          binDirectory: options.binDir,
          configurationDirectory: options.confDir,
          network: options.name,
          bridge: options.bridge,
          masquerade: options.masquerade,
          subnets: options.subnet,
          mtu: options.mtu,
        }),
      );
      if (options.json === true) printJson(installed);
      else tell(installedText, installed);
    });
  withDirectories(command.command("uninstall"))
    .description("remove both again")
    .option("--force", "even while pods are attached")
    .action(async (options: Directories & { readonly force?: true }) => {
      const networks = readNetworks(options.confDir);
      const attached = attachedTo(networks);
      const directories = { binDirectory: options.binDir, configurationDirectory: options.confDir };
      const { removed } = uninstall(directories, attached, options.force === true);
      // With nobody attached this leaves the networks' rules to nobody, and so takes them away.
      if (attached.length === 0)
        for (const network of networks) await collectNetwork(network, options, false, cacheDirectories());
      if (options.json === true) printJson({ removed });
      else tell(uninstalledText, removed);
    });
  withDirectories(command.command("gc"))
    .description("remove what pods that are gone left behind: links, addresses, rules")
    .option("--dry-run", "only show it")
    .option(
      "--cache-dir <directory>",
      "where a runtime keeps libcni's cache, beside the usual places",
      collect,
    )
    .addHelpText("after", GC_HELP)
    .action(async (options: GcOptions) => {
      const networks = readNetworks(options.confDir);
      const dryRun = options.dryRun === true;
      // What runtimes call their cache directory is the folder above the results.
      const own = options.cacheDir ?? [];
      const directories = [...own, ...own.map((folder) => join(folder, "results")), ...cacheDirectories()];
      const collected: CollectedNetwork[] = [];
      for (const network of networks) {
        collected.push(await collectNetwork(network, options, dryRun, directories));
      }
      if (options.json === true) printJson({ dryRun, networks: collected });
      else tell(collectedText, collected, dryRun, options.confDir);
      if (collected.some(({ refusal }) => refusal !== undefined)) process.exitCode = 1;
    });
  return command;
}

function withDirectories(command: Command): Command {
  return command
    .option("--bin-dir <directory>", "where runtimes look for plugins", DEFAULT_BIN_DIRECTORY)
    .option("--conf-dir <directory>", "where they look for networks", DEFAULT_CONFIGURATION_DIRECTORY)
    .option("--json", "one JSON value");
}

function collect(value: string, before: readonly string[] = []): string[] {
  return [...before, value];
}

function attachedTo(networks: readonly ConfiguredNetwork[]): string[] {
  using node = Rtnetlink.open();
  return networks.flatMap(({ network }) => linksOf(network, node).map(({ alias }) => alias ?? ""));
}

/** GC as a runtime would ask for it, with the attachments that are in use, or may be. */
async function collectNetwork(
  network: ConfiguredNetwork,
  { binDir }: Directories,
  dryRun: boolean,
  cacheDirectories: readonly string[],
): Promise<CollectedNetwork> {
  const text = JSON.stringify({ ...network.plugin, name: network.network, cniVersion: "1.1.0" });
  const call = {
    command: "GC",
    container: "",
    interfaceName: "",
    netns: undefined,
    args: {},
    path: [binDir],
  } as const;
  using context = new CniContext(call, readHeader(text), { ...process.env, CNI_PATH: binDir });
  const caches = readCaches(cacheDirectories);
  const { kept, keptLinks, doubts, refusal } = judgeAttachments(network, context.node, caches, Date.now());
  const about = { network: network.network, doubts };
  if (refusal !== undefined) return { ...about, refusal, ...NOTHING };
  return { ...about, ...(await gc(context, kept, dryRun, keptLinks)) };
}

const NOTHING: Collected = { links: [], addresses: [], checkedPorts: [], othersRules: [], natRules: false };

function installedText(installed: Installed): string {
  const { program, largeBecause, conflist, wroteConflist, subnets, portmap, shadowedBy } = installed;
  const { loopback, unusableLoopback } = installed;
  const lines = [
    largeBecause === undefined
      ? `${style.good("✓")} ${program}: the small plugin`
      : `${style.warn("!")} ${program}: this whole program, whose calls cost more; ${largeBecause}`,
    `${style.good("✓")} ${conflist}${wroteConflist ? "" : " was there and is kept"}: ${subnets.map(style.address).join(" and ")}`,
    ...(loopback === undefined
      ? []
      : [
          `${style.good("✓")} ${loopback}: the plugin loopback was missing; this program is installed as that, too`,
        ]),
    ...(unusableLoopback === undefined
      ? []
      : [
          `${style.bad("✗")} ${unusableLoopback} cannot be executed: without the plugin loopback no pod starts. Remove it, and run this again`,
        ]),
    ...(portmap
      ? []
      : [
          `${style.warn("!")} the plugin portmap is not installed: ports that pods publish (hostPort) do not work`,
        ]),
    ...shadowedBy.map(
      (name) => `${style.warn("!")} ${name} sorts before it: runtimes take that network first`,
    ),
  ];
  return `${lines.join("\n")}\n`;
}

function uninstalledText(removed: readonly string[]): string {
  if (removed.length === 0) return "Nothing was installed.\n";
  return removed.map((path) => `${style.good("✓")} ${path} is gone\n`).join("");
}

function collectedText(networks: readonly CollectedNetwork[], dryRun: boolean, directory: string): string {
  if (networks.length === 0) return `No network in ${directory} names the plugin wayout.\n`;
  const verb = dryRun ? "would remove" : "removed";
  return networks
    .map(({ network, links, addresses, checkedPorts, othersRules, natRules, doubts, refusal }) => {
      if (refusal !== undefined) {
        return `${style.bad("✗")} ${style.strong(network)}: ${refusal}; nothing was touched.\n  ${style.hint("→")} name its folder: ${style.command("wayout cni gc --cache-dir DIRECTORY")}\n`;
      }
      const found = [
        ...links.map(({ name, alias }) => `link ${name} (${alias})`),
        ...addresses.map(
          ({ address, owner }) => `address ${address} of ${owner === "" ? "no owner" : owner}`,
        ),
        ...checkedPorts.map((port) => `sender check of ${port}`),
        ...othersRules.map((pod) => `another plugin's rules of ${pod}`),
        ...(natRules ? ["its NAT rules, for it has no pods left"] : []),
      ];
      const stays = doubts.map(
        ({ what, why }) => `${style.warn("!")} ${style.strong(network)}: ${what} stays: ${why}\n`,
      );
      if (found.length === 0 && stays.length === 0) {
        return `${style.good("✓")} ${style.strong(network)}: nothing is left over\n`;
      }
      return [
        ...found.map((what) => `${style.warn("!")} ${style.strong(network)}: ${verb} ${what}\n`),
        ...stays,
      ].join("");
    })
    .join("");
}
