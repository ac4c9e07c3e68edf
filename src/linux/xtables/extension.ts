/** An xtables match or target, decoded where its structure is known, and as iptables text. */
import { DecodeError } from "../netlink/wire.ts";
import { XtInfo, type XtContext, type XtOption } from "./info.ts";
import { MATCHES } from "./matches.ts";
import { TARGETS } from "./targets.ts";

export type { XtContext, XtFamily, XtOption } from "./info.ts";

/** A match or target of a rule. */
export interface XtExtension {
  readonly kind: "match" | "target";
  readonly name: string;
  readonly revision: number;
  /** undefined when this version does not know the structure: it can be named, not judged. */
  readonly options: readonly XtOption[] | undefined;
  readonly bytes: number;
}

/** Decodes one; never fails: what is unknown, or shorter than it should be, has no options. */
export function decodeExtension(
  kind: "match" | "target",
  name: string,
  revision: number,
  bytes: Uint8Array,
  context: XtContext,
): XtExtension {
  const table = kind === "match" ? MATCHES : TARGETS;
  const decoder = Object.hasOwn(table, name) ? table[name] : undefined;
  let options: readonly XtOption[] | undefined;
  try {
    options = decoder?.(new XtInfo(bytes), revision, context);
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
  }
  return { kind, name, revision, options, bytes: bytes.length };
}

/** A value as a shell would need it: in quotes when it holds more than one word, quotes and backslashes escaped. */
function argument(value: string, alwaysQuoted: boolean): string {
  if (!alwaysQuoted && /^[^\s"'\\]+$/.test(value)) return value;
  return `"${value.replace(/["'\\]/g, String.raw`\$&`)}"`;
}

/** Options whose value is one argument, whatever is in it; other values are several words. */
const TEXT_OPTIONS: ReadonlySet<string> = new Set(["--comment", "--log-prefix", "--nflog-prefix"]);

export function optionText(option: XtOption): string {
  const not = option.not === true ? "! " : "";
  if (option.value === undefined) return not + option.option;
  const value = TEXT_OPTIONS.has(option.option) ? argument(option.value, false) : option.value;
  return `${not}${option.option} ${value}`;
}

/** The name it was written by: some modules have a second one, for old habits. */
function aliasOf({ name, options }: XtExtension): string {
  if (name === "conntrack" && options?.[0]?.option === "--state") return "state";
  return name === "CT" && options?.length === 0 ? "NOTRACK" : name;
}

/** `-m conntrack --ctstate RELATED,ESTABLISHED`, `-j MASQUERADE --random-fully`. */
export function extensionText(extension: XtExtension): string {
  const options = extension.options;
  const head = `${extension.kind === "match" ? "-m" : "-j"} ${aliasOf(extension)}`;
  if (options === undefined) {
    return `${head} /* revision ${extension.revision}, ${extension.bytes} bytes not understood */`;
  }
  return [head, ...options.map((one) => optionText(one))].join(" ");
}
