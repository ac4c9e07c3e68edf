import { Command } from "commander";
import { attachmentsInUse, readNetworks, type ConfiguredNetwork } from "../cni/configured-networks.ts";
import { readHeader } from "../cni/configuration.ts";
import { CniContext } from "../cni/context.ts";
import { gc, type Collected } from "../cni/gc.ts";
import {
  DEFAULT_BIN_DIRECTORY,
  DEFAULT_CONFIGURATION_DIRECTORY,
  install,
  uninstall,
  type Installed,
} from "../cni/install.ts";
import { linksOf } from "../cni/network-state.ts";
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { printJson, tell } from "./output.ts";
import { style } from "./style.ts";

const HELP = `
As a CNI plugin (type "wayout") this very program connects pods for containerd, CRI-O, podman and Kubernetes. In a
network that uses the reference plugins, changing "type": "bridge" to "type": "wayout" is all there is to do.

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
    .action((options: InstallOptions) => {
      const installed = install({
        binDirectory: options.binDir,
        configurationDirectory: options.confDir,
        network: options.name,
        bridge: options.bridge,
        ...(options.subnet === undefined ? {} : { subnets: options.subnet }),
        ...(options.mtu === undefined ? {} : { mtu: options.mtu }),
      });
      if (options.json === true) printJson(installed);
      else tell(installedText, installed);
    });
  withDirectories(command.command("uninstall"))
    .description("take both away again")
    .option("--force", "even while pods are attached")
    .action(async (options: Directories & { readonly force?: true }) => {
      const networks = readNetworks(options.confDir);
      const attached = attachedTo(networks);
      const directories = { binDirectory: options.binDir, configurationDirectory: options.confDir };
      const { removed } = uninstall(directories, attached, options.force === true);
      // With nobody attached this leaves the networks' rules to nobody, and so takes them away.
      if (attached.length === 0)
        for (const network of networks) await collectNetwork(network, options, false);
      if (options.json === true) printJson({ removed });
      else tell(uninstalledText, removed);
    });
  withDirectories(command.command("gc"))
    .description("remove what pods that are gone left behind: links, addresses, rules")
    .option("--dry-run", "only show it")
    .action(async (options: Directories & { readonly dryRun?: true }) => {
      const networks = readNetworks(options.confDir);
      const dryRun = options.dryRun === true;
      const collected: (Collected & { readonly network: string })[] = [];
      for (const network of networks) {
        collected.push({ network: network.network, ...(await collectNetwork(network, options, dryRun)) });
      }
      if (options.json === true) printJson({ dryRun, networks: collected });
      else tell(collectedText, collected, dryRun, options.confDir);
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

/** GC as a runtime would ask for it, with the attachments that its cache says are in use. */
async function collectNetwork(
  network: ConfiguredNetwork,
  { binDir }: Directories,
  dryRun: boolean,
): Promise<Collected> {
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
  return await gc(context, attachmentsInUse(network, Date.now()), dryRun);
}

function installedText(installed: Installed): string {
  const { program, conflist, wroteConflist, subnets, shadowedBy } = installed;
  const lines = [
    `${style.good("✓")} ${program}`,
    `${style.good("✓")} ${conflist}${wroteConflist ? "" : " was there and is kept"}: ${subnets.map(style.address).join(" and ")}`,
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

function collectedText(
  networks: readonly (Collected & { readonly network: string })[],
  dryRun: boolean,
  directory: string,
): string {
  if (networks.length === 0) return `No network in ${directory} names the plugin wayout.\n`;
  const verb = dryRun ? "would remove" : "removed";
  return networks
    .map(({ network, links, addresses, checkedPorts, natRules }) => {
      const found = [
        ...links.map(({ name, alias }) => `link ${name} (${alias})`),
        ...addresses.map(({ address, owner }) => `address ${address} of ${owner === "" ? "nobody" : owner}`),
        ...checkedPorts.map((port) => `sender check of ${port}`),
        ...(natRules ? ["its NAT rules, for nobody is left"] : []),
      ];
      if (found.length === 0) return `${style.good("✓")} ${style.strong(network)}: nothing is left over\n`;
      return found.map((what) => `${style.warn("!")} ${style.strong(network)}: ${verb} ${what}\n`).join("");
    })
    .join("");
}
