/** What a runtime asks, as it stands in the environment (CNI specification, "Parameters"). Pure. */
import { WayoutError } from "../error.ts";
import { FieldError } from "../ipam/fields.ts";

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
  /** Directories of plugins. */
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

/** @throws WayoutError `cni-environment` naming everything that is missing or wrong */
export function readCall(environment: Environment): CniCall {
  const command = CNI_COMMANDS.find((known) => known === environment["CNI_COMMAND"]);
  if (command === undefined) {
    throw environmentError(
      `CNI_COMMAND is "${environment["CNI_COMMAND"] ?? ""}", not ${CNI_COMMANDS.slice(0, -1).join(", ")} or VERSION`,
    );
  }
  const missing = REQUIRED[command].filter((name) => (environment[name] ?? "") === "");
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
      `CNI_IFNAME "${interfaceName}" must be 1 to 15 bytes without / : or white space, and not . or ..`,
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
    path: (environment["CNI_PATH"] ?? "").split(":").filter((directory) => directory !== ""),
  };
}

/** dev_valid_name() of net/core/dev.c, as the specification wants it, too. */
function isInterfaceName(name: string): boolean {
  return !/[\s/:]/.test(name) && Buffer.byteLength(name) <= 15 && name !== "." && name !== "..";
}

/** Those of the runtimes (K8S_POD_NAME…), which come with IgnoreUnknown=1, and those of the plugin we replace. */
const KNOWN_ARGUMENTS = new Set(["IgnoreUnknown", "IP", "MAC"]);

/**
 * CNI_ARGS: `KEY=value;KEY=value`. With `IgnoreUnknown=1` whatever we do not know is let pass, however it looks.
 * @throws WayoutError `cni-environment`
 */
export function readArguments(text: string): CniArguments {
  const pairs = text.split(";").filter((pair) => pair !== "");
  const values = new Map<string, string>();
  for (const pair of pairs) {
    const at = pair.indexOf("=");
    if (at > 0) values.set(pair.slice(0, at), pair.slice(at + 1));
  }
  const lenient = /^(1|true)$/i.test(values.get("IgnoreUnknown") ?? "");
  if (!lenient) {
    const unknown = pairs.filter((pair) => !KNOWN_ARGUMENTS.has(pair.split("=")[0]!) || !pair.includes("="));
    if (unknown.length > 0) {
      throw environmentError(
        `CNI_ARGS has ${unknown.map((pair) => `"${pair}"`).join(", ")}, which nobody here knows; IgnoreUnknown=1 lets it pass`,
      );
    }
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
