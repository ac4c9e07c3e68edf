/** What a runtime asks, as it stands in the environment (CNI specification, "Parameters"). Pure. */
import { WayoutError } from "../error.ts";
import { FieldError } from "../ipam/fields.ts";
import { isInterfaceName } from "../network/interface-name.ts";

export const CNI_COMMANDS = ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"] as const;
export type CniCommand = (typeof CNI_COMMANDS)[number];

export interface CniCall {
  readonly command: CniCommand;
  /** "" where the command needs none. */
  readonly container: string;
  readonly interfaceName: string;
  /** Path of the pod's namespace; undefined when the runtime says that it is gone (DEL only). */
  readonly netns: string | undefined;
  readonly args: CniArguments;
  /** Directories of plugins, as CNI_PATH has them: an empty one is none. */
  readonly path: readonly string[];
}

/** The part of CNI_ARGS that we know. */
export interface CniArguments {
  readonly ip?: string;
  readonly mac?: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

const REQUIRED: Readonly<Record<CniCommand, readonly string[]>> = {
  ADD: ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
  CHECK: ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
  DEL: ["CNI_CONTAINERID", "CNI_IFNAME"],
  GC: [],
  STATUS: [],
  VERSION: [],
};

/** Container ids and network names become parts of paths, hence no slash, and no dot to begin with. */
const IDENTIFIER = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;

export function isIdentifier(text: string): boolean {
  return IDENTIFIER.test(text);
}

function isCommand(text: string | undefined): text is CniCommand {
  return (CNI_COMMANDS as readonly (string | undefined)[]).includes(text);
}

/** @throws WayoutError `cni-environment` naming everything that is missing or wrong */
export function readCall(environment: Environment): CniCall {
  const command = environment["CNI_COMMAND"];
  if (!isCommand(command)) {
    throw environmentError(
      `CNI_COMMAND is "${environment["CNI_COMMAND"] ?? ""}", not ${CNI_COMMANDS.slice(0, -1).join(", ")} or VERSION`,
    );
  }
  const missing: string[] = [];
  for (const name of REQUIRED[command]) if ((environment[name] ?? "") === "") missing.push(name);
  if (missing.length > 0) throw environmentError(`${missing.join(", ")} missing`);
  const container = environment["CNI_CONTAINERID"] ?? "";
  const interfaceName = environment["CNI_IFNAME"] ?? "";
  const wrong: string[] = [];
  if (container !== "" && !isIdentifier(container)) {
    wrong.push(
      `CNI_CONTAINERID "${container}" must be letters, digits and _ . - and begin with a letter or digit`,
    );
  }
  if (interfaceName !== "" && !isInterfaceName(interfaceName)) {
    wrong.push(
      `CNI_IFNAME "${interfaceName}" must be 1 to 15 bytes without / : % or white space, and not . or ..`,
    );
  }
  if (wrong.length > 0) throw environmentError(wrong.join("; "));
  const netns = environment["CNI_NETNS"] ?? "";
  return {
    command,
    container,
    interfaceName,
    netns: netns === "" ? undefined : netns,
    args: readArguments(environment["CNI_ARGS"] ?? ""),
    path: (environment["CNI_PATH"] ?? "").split(":"),
  };
}

/** Those of the runtimes (K8S_POD_NAME…), which come with IgnoreUnknown=1, and those of the plugin we replace. */
const KNOWN_ARGUMENTS = new Set(["IgnoreUnknown", "IP", "MAC"]);

/**
 * CNI_ARGS: `KEY=value;KEY=value`. With `IgnoreUnknown=1` whatever we do not know is let pass, however it looks.
 * @throws WayoutError `cni-environment`
 */
export function readArguments(text: string): CniArguments {
  const values = new Map<string, string>();
  const unknown: string[] = [];
  for (const pair of text.split(";")) {
    if (pair === "") continue;
    const at = pair.indexOf("=");
    const name = at < 0 ? "" : pair.slice(0, at);
    if (at > 0) values.set(name, pair.slice(at + 1));
    if (!KNOWN_ARGUMENTS.has(name)) unknown.push(`"${pair}"`);
  }
  const lenient = /^(1|true)$/i.test(values.get("IgnoreUnknown") ?? "");
  if (!lenient && unknown.length > 0) {
    throw environmentError(
      `CNI_ARGS has ${unknown.join(", ")}, which this plugin does not know; IgnoreUnknown=1 accepts that`,
    );
  }
  const ip = values.get("IP") ?? "";
  const mac = values.get("MAC") ?? "";
  return { ...(ip === "" ? {} : { ip }), ...(mac === "" ? {} : { mac }) };
}

function environmentError(said: string): WayoutError {
  return new WayoutError({
    code: "cni-environment",
    kind: "usage",
    doing: "reading the CNI environment variables",
    said,
  });
}

/** The network's name, which becomes part of paths. @throws FieldError */
export function checkNetworkName(name: string | undefined): string {
  if (name === undefined || name === "") throw new FieldError("name", "is missing: every network has one");
  if (!isIdentifier(name)) {
    throw new FieldError(
      "name",
      `"${name}" must be letters, digits and _ . - and begin with a letter or digit`,
    );
  }
  return name;
}
