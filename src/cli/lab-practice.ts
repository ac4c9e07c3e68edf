import { familyOf } from "../address/ip.ts";
import { Command } from "commander";
import { FAULTS } from "../lab/faults/all.ts";
import type { Fault } from "../lab/faults/fault.ts";
import { PLAN } from "../lab/plan.ts";
import { breakLab, mendLab } from "../lab/practice.ts";
import { delegated } from "./lab-realm.ts";
import { printJson, tell } from "./output.ts";
import { style, table } from "./style.ts";

interface Options {
  readonly list?: boolean;
  readonly json?: boolean;
}

const BREAK_HELP = `
Find out what is wrong with: wayout doctor ns-blue. Undo it with: wayout lab mend.`;

/** `wayout lab break` */
export function breakCommand(): Command {
  return new Command("break")
    .description("make one real fault in the lab, for practice")
    .argument("[fault]", "its name; without one a fault is chosen at random and not named")
    .option("--list", "list all faults")
    .option("--json", "one JSON value")
    .addHelpText("after", BREAK_HELP)
    .action(async (name: string | undefined, options: Options) => {
      if (options.list === true) return showFaults(options.json === true);
      if (delegated(["lab", "break", ...process.argv.slice(4)], "need")) return;
      const fault = await breakLab(name ?? surprise());
      if (options.json === true) printJson({ fault: fault.name, title: fault.title });
      else tell(brokenText, fault, name === undefined);
    });
}

function brokenText(fault: Fault, surprising: boolean): string {
  const what = surprising ? "One thing in the lab is broken now." : `Broken: ${fault.title}`;
  const rows = [
    [`  ${style.command(doctorLine(fault))}`, style.quiet("find out")],
    [`  ${style.command("wayout lab mend")}`, style.quiet("undo it")],
  ];
  return `${style.warn("!")} ${what}\n${table(rows)}\n`;
}

/** What a person whose traffic this breaks would ask. */
function doctorLine({ target, family, onlyNames, onlyLive }: Fault): string {
  const plain = target === undefined && family === undefined && onlyLive !== true;
  if (onlyNames === true || plain) return "wayout doctor ns-blue";
  const web = family === 6 ? PLAN.internet.httpIpv6 : PLAN.internet.httpIpv4;
  const { address, protocol, port } = target ?? { address: web, protocol: "tcp", port: 80 };
  const host = familyOf(address) === 6 ? `[${address}]` : address;
  const over = protocol === "tcp" ? "" : ` --proto ${protocol}`;
  return `wayout doctor ns-blue --to ${host}${port === 0 ? "" : `:${port}`}${over}`;
}

function surprise(): string {
  const possible = FAULTS.filter(({ needs }) => needs === undefined || Bun.which(needs) !== null);
  return possible[Math.floor(Math.random() * possible.length)]!.name;
}

function showFaults(json: boolean): void {
  if (json) {
    printJson(
      FAULTS.map(({ name, title, finding, family }) => ({ name, title, finding, family: family ?? 4 })),
    );
    return;
  }
  const rows = FAULTS.map(({ name, title }) => [`  ${style.strong(name)}`, title]);
  tell(() => `${table(rows)}\n`);
}

/** `wayout lab mend` */
export function mendCommand(): Command {
  return new Command("mend")
    .description("undo faults: the one named, or all")
    .argument("[fault]", "its name")
    .option("--json", "one JSON value")
    .action(async (name: string | undefined, options: Options) => {
      if (delegated(["lab", "mend", ...process.argv.slice(4)], "need")) return;
      const mended = await mendLab(name);
      if (options.json === true) printJson({ mended });
      else if (mended.length === 0) tell(() => "Nothing was broken.\n");
      else tell(() => `${style.good("✓")} Undone: ${mended.join(", ")}\n`);
    });
}
