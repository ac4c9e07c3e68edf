/** An xtables match or target of a rule: its value where its structure is known, and its text. */
import { DecodeError } from "../netlink/wire.ts";
import type { XtDescription } from "./describe.ts";
import { quoted, XtInfo, type XtContext, type XtOption } from "./info.ts";
import { MATCHES } from "./matches/all.ts";
import { TARGETS } from "./targets/all.ts";

export type { XtContext, XtFamily, XtOption } from "./info.ts";

export interface XtExtension {
  readonly kind: "match" | "target";
  readonly name: string;
  readonly revision: number;
  readonly bytes: number;
  /** undefined when this version does not know the structure: it can be named, neither printed nor judged. */
  readonly understood: Understood | undefined;
}

export interface Understood {
  readonly description: XtDescription<unknown>;
  readonly value: unknown;
}

/** Never fails: an unknown name or revision, or a structure that is too short, is not understood. */
export function decodeExtension(
  kind: "match" | "target",
  name: string,
  revision: number,
  bytes: Uint8Array,
  context: XtContext,
): XtExtension {
  const description = (kind === "match" ? MATCHES : TARGETS).get(name);
  const known = description?.revisions.includes(revision) === true ? description : undefined;
  return {
    kind,
    name,
    revision,
    bytes: bytes.length,
    understood: known === undefined ? undefined : read(known, revision, bytes, context),
  };
}

function read(
  description: XtDescription<unknown>,
  revision: number,
  bytes: Uint8Array,
  context: XtContext,
): Understood | undefined {
  try {
    return { description, value: description.read(new XtInfo(bytes), revision, context) };
  } catch (error) {
    if (error instanceof DecodeError) return undefined;
    throw error;
  }
}

/** Options whose value is one argument, whatever is in it; other values are several words. */
const TEXT_OPTIONS: ReadonlySet<string> = new Set(["--comment", "--log-prefix", "--nflog-prefix"]);

export function optionText(option: XtOption): string {
  const not = option.not === true ? "! " : "";
  if (option.value === undefined) return not + option.option;
  const isPlain = !TEXT_OPTIONS.has(option.option) || /^[^\s"'\\]+$/.test(option.value);
  return `${not}${option.option} ${isPlain ? option.value : quoted(option.value)}`;
}

/** `-m conntrack --ctstate RELATED,ESTABLISHED`, `-j MASQUERADE --random-fully`. */
export function extensionText(
  { kind, name, revision, bytes, understood }: XtExtension,
  context: XtContext,
): string {
  const flag = kind === "match" ? "-m" : "-j";
  if (understood === undefined) {
    return `${flag} ${name} /* revision ${revision}, ${bytes} bytes not understood */`;
  }
  const { description, value } = understood;
  const writtenAs = description.writtenAs?.(value) ?? name;
  return [`${flag} ${writtenAs}`, ...description.options(value, context).map(optionText)].join(" ");
}
