import { Command } from "commander";
import type { IpFamily } from "../address/ip.ts";
import { WayoutError } from "../error.ts";
import {
  enableForwarding,
  notForwarded,
  readForwarding,
  type Forwarding,
  type SettingChange,
} from "../forwarding/forwarding.ts";
import { FORWARDING_SYSCTL } from "../forwarding/switches.ts";
import {
  bootValue,
  persistSettings,
  readSysctlFiles,
  SYSCTL_FILE,
  type BootValue,
  type Persisted,
} from "../forwarding/persistence.ts";
import { requireSharedRun } from "../kernel/shared-run.ts";
import { openNamespace } from "../pods/open-namespace.ts";
import { namespaceOption } from "./namespace-option.ts";
import { printJson, tell } from "./output.ts";
import { style, table } from "./style.ts";
import { present } from "../present.ts";

const HELP = `
A node passes packets from one interface to another only when forwarding is on. Without it, packets of a namespace end at
the node. IPv4 and IPv6 have a switch each.

Examples:
  wayout forwarding show                    is it on? and after the next boot?
  sudo wayout forwarding enable             switch both on, until the next boot
  sudo wayout forwarding enable --persist   and keep it, in ${SYSCTL_FILE}`;

/** `wayout forwarding show` and `enable`. */
export function forwardingCommand(): Command {
  return new Command("forwarding")
    .description("does this node route packets for others? show it, switch it on")
    .addHelpText("after", HELP)
    .addCommand(showCommand())
    .addCommand(enableCommand());
}

// ── show ─────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Common {
  readonly netns?: string;
  readonly json?: boolean;
  readonly ipv4?: boolean;
  readonly ipv6?: boolean;
  readonly root?: string;
}

function showCommand(): Command {
  return new Command("show")
    .description("the switches now and after the next boot; exit 1 when one that was asked for is off")
    .option("--ipv4", "ask for IPv4 only (default: IPv4; IPv6 is shown and does not count)")
    .option("--ipv6", "ask for IPv6 only; with --ipv4, for both")
    .addOption(namespaceOption())
    .option("--root <directory>", "read sysctl.d files below this directory", "")
    .option("--json", "one JSON value")
    .action((options: Common) => {
      using namespace = openNamespace(options.netns);
      const forwarding = readForwarding(namespace);
      const files = readSysctlFiles(options.root);
      const boot = {
        ipv4: bootValue(files, FORWARDING_SYSCTL[4]),
        ipv6: bootValue(files, FORWARDING_SYSCTL[6]),
      };
      const wanted = { ipv4: options.ipv4 === true || options.ipv6 !== true, ipv6: options.ipv6 === true };
      const works = (!wanted.ipv4 || isWhole(forwarding, 4)) && (!wanted.ipv6 || isWhole(forwarding, 6));
      // A namespace is not booted: sysctl.d says nothing about it.
      const persistent = options.netns === undefined ? { boot, unreadable: files.unreadable } : {};
      if (options.json === true) printJson({ ok: works, ...forwarding, ...persistent });
      else tell(showText, forwarding, options.netns === undefined ? boot : undefined, works);
      if (!works) process.exitCode = 1;
    });
}

/** Whether what arrives is forwarded, on every interface that speaks the family. */
function isWhole(forwarding: Forwarding, family: IpFamily): boolean {
  const isOn = family === 4 ? forwarding.ipv4 : forwarding.ipv6;
  return (
    (isOn === true || forwarding.interfaces.length > 0) &&
    isOn !== undefined &&
    notForwarded(forwarding, family).length === 0
  );
}

function showText(
  forwarding: Forwarding,
  boot: { readonly ipv4: BootValue; readonly ipv6: BootValue } | undefined,
  works: boolean,
): string {
  const rows = (["ipv4", "ipv6"] as const).map((family) => [
    family === "ipv4" ? "IPv4" : "IPv6",
    onOff(forwarding[family]),
    style.quiet(FORWARDING_SYSCTL[family === "ipv4" ? 4 : 6]),
    boot === undefined ? "" : style.quiet(bootText(boot[family])),
  ]);
  const odd = [...oddities(forwarding), ...forwarding.interfaces.flatMap(expiring)];
  return [
    table(rows),
    ...odd,
    ...(works ? [] : [`\n${style.hint("→")} switch it on: ${style.command("wayout forwarding enable")}`]),
    "",
  ].join("\n");
}

function onOff(value: boolean | undefined): string {
  if (value === undefined) return style.quiet("– none");
  return value ? style.good("✓ on") : style.bad("✗ off");
}

function bootText({ value, decidedBy }: BootValue): string {
  if (decidedBy === undefined)
    return "after a boot: off, unless something else sets it (no sysctl.d file does)";
  return `after a boot: ${value} (${decidedBy.file}:${decidedBy.line})`;
}

/** Interfaces that do not forward although their family's switch is on. */
function oddities(all: Forwarding): string[] {
  return ([4, 6] as const)
    .filter((family) => (family === 4 ? all.ipv4 : all.ipv6) === true)
    .flatMap((family) =>
      notForwarded(all, family).map(
        ({ link }) =>
          `${style.bad("✗")} ${link}: off for IPv${family} alone; what arrives there is not forwarded`,
      ),
    );
}

function expiring(one: Forwarding["interfaces"][number]): string[] {
  if (one.advertisedRoutes.length === 0 || one.ipv6 !== true || one.acceptRa !== 1) return [];
  return [
    `${style.warn("!")} ${one.name}: accept_ra is 1 while it forwards; its route ${one.advertisedRoutes.join(", ")} will expire: wayout forwarding enable --ipv6`,
  ];
}

// ── enable ───────────────────────────────────────────────────────────────────────────────────────────────────────

function enableCommand(): Command {
  return new Command("enable")
    .description("switch forwarding on (both families, or those named)")
    .option("--ipv4", "IPv4 only")
    .option("--ipv6", "IPv6 only")
    .option("--persist", `also after the next boot: writes ${SYSCTL_FILE}`)
    .addOption(namespaceOption())
    .option("--root <directory>", "with --persist: write below this directory", "")
    .option("--json", "one JSON value")
    .action((options: Common & { readonly persist?: boolean }) => {
      if (options.persist === true && options.netns !== undefined) throw notBooted(options.netns);
      using namespace = openNamespace(options.netns);
      requireSharedRun(namespace, "switching forwarding on");
      const before = readForwarding(namespace);
      const both = options.ipv4 !== true && options.ipv6 !== true;
      const wanted = {
        ipv4: both || options.ipv4 === true,
        // A kernel without IPv6 has nothing to switch on, unless it was asked for by name.
        ipv6: options.ipv6 === true || (both && before.ipv6 !== undefined),
      };
      const changes = enableForwarding(namespace, wanted);
      const persisted =
        options.persist === true ? persistSettings(settingsOf(wanted, changes), options.root) : undefined;
      const after = readForwarding(namespace);
      if (options.json === true) printJson(present({ changes, persisted, forwarding: after }));
      else tell(enableText, changes, persisted, options);
      if (persisted !== undefined && persisted.undoneBy.length > 0) process.exitCode = 1;
    });
}

function notBooted(netns: string): WayoutError {
  return new WayoutError({
    code: "usage",
    kind: "usage",
    doing: "reading the command line",
    said: `--persist is about this machine's next boot; the namespace ${netns} is gone after it`,
    todo: "Leave out --persist, or --netns.",
  });
}

/** What shall hold after a boot: the switches, and what had to be set for their sake. */
function settingsOf(
  wanted: { readonly ipv4: boolean; readonly ipv6: boolean },
  changes: readonly SettingChange[],
) {
  const settings = changes.map(({ name, after }) => ({ name, value: after }));
  for (const [family, isWanted] of [[4, wanted.ipv4] as const, [6, wanted.ipv6] as const]) {
    const name = FORWARDING_SYSCTL[family];
    if (isWanted && !settings.some((one) => one.name === name)) settings.push({ name, value: "1" });
  }
  return settings;
}

function enableText(
  changes: readonly SettingChange[],
  persisted: Persisted | undefined,
  options: Common,
): string {
  const lines = changes.map(
    ({ name, before, after, reason }) =>
      `${style.good("✓")} ${name}: ${before} → ${after}${reason === undefined ? "" : style.quiet(`  (${reason})`)}`,
  );
  if (changes.length === 0) lines.push(`${style.good("✓")} forwarding was on already; nothing changed`);
  if (persisted !== undefined) {
    lines.push(`${style.good("✓")} ${persisted.file} ${persisted.written ? "written" : "has this already"}`);
    for (const { file, line, name, value } of persisted.undoneBy) {
      lines.push(
        `${style.bad("✗")} ${file}:${line} is applied later and says ${name} = ${value}: change that line, or the next boot switches forwarding off`,
      );
    }
    for (const { file, reason } of persisted.unreadable)
      lines.push(`${style.warn("!")} ${file} could not be read: ${reason}`);
  }
  const netns = options.netns === undefined ? "" : ` --netns ${options.netns}`;
  lines.push(`${style.hint("→")} verify: ${style.command(`wayout forwarding show${netns}`)}`);
  if (persisted === undefined && options.netns === undefined) {
    lines.push(
      `${style.hint("→")} keep it over a boot: ${style.command("wayout forwarding enable --persist")}`,
    );
  }
  return `${lines.join("\n")}\n`;
}
