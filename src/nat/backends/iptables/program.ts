/** The iptables programs: which of their two kinds a host uses, and how they are run. */
import { legacyTableNames } from "../../../kernel/iptables-legacy/table-names.ts";
import type { IpFamily } from "../../../address/ip.ts";
import { rethrowMistake, WayoutError } from "../../../error.ts";
import { isExecutable } from "../../../kernel/file.ts";
import { FileLock } from "../../../kernel/file-lock.ts";
import { decodeUtf8, encodeUtf8 } from "../../../platform/bytes.ts";
import { platform } from "#platform";
import type { NetworkNamespace } from "../../../kernel/namespace.ts";
import { noteOwnProgram } from "../../../kernel/own-programs.ts";
import { present } from "../../../present.ts";

/** Both kinds keep rules apart from each other: `nft` in nf_tables, `legacy` in the older xtables. */
export const IPTABLES_VARIANTS = ["nft", "legacy"] as const;
export type IptablesVariant = (typeof IPTABLES_VARIANTS)[number];

/** Longest that one of the programs may take; it waits for the xtables lock LOCK_WAIT_S of that. */
const TIMEOUT_MS = 30_000;
const LOCK_WAIT_S = 10;

/** A CNI runtime may start us with a PATH that lacks where distributions keep these programs. */
function which(program: string): string | undefined {
  const path = `${platform.environment()["PATH"] ?? ""}:/usr/sbin:/sbin:/usr/local/sbin`;
  const candidates = path.split(":").map((directory) => `${directory}/${program}`);
  return candidates.find((candidate) => candidate.startsWith("/") && isExecutable(candidate));
}

function run(namespace: NetworkNamespace, argv: readonly [string, ...string[]], input?: string) {
  const ran = namespace.run(() =>
    platform.run(
      argv,
      present({
        input: input === undefined ? undefined : encodeUtf8(input),
        stderr: "capture",
        timeoutMs: TIMEOUT_MS,
      }),
    ),
  );
  noteOwnProgram(ran.pid);
  const { exitCode, stdout, stderr } = ran;
  return { exitCode, stdout: decodeUtf8(stdout), stderr: decodeUtf8(stderr) };
}

const BASE = { 4: "iptables", 6: "ip6tables" } as const;

/** The path of a program of this kind, of plain `iptables` without an action; undefined when the host has none. */
export function iptablesProgram(
  variant: IptablesVariant,
  family: IpFamily,
  action?: "save" | "restore",
): string | undefined {
  const end = action === undefined ? "" : `-${action}`;
  const named = which(`${BASE[family]}-${variant}${end}`);
  if (named !== undefined) return named;
  // Before 1.8 there was one kind only, and some distributions ship one kind under the plain names.
  const plain = which(`${BASE[family]}${end}`);
  return plain !== undefined && plainVariant() === variant ? plain : undefined;
}

/** What `iptables` without a suffix is on this host; undefined when it is not installed. */
function plainVariant(): IptablesVariant | undefined {
  const path = which("iptables");
  if (path === undefined) return undefined;
  const said = platform.run([path, "--version"], { stderr: "ignore", timeoutMs: TIMEOUT_MS });
  return decodeUtf8(said.stdout).includes("nf_tables") ? "nft" : "legacy";
}

/**
 * The kind this host uses: the one it has; with both installed, legacy when only legacy holds NAT rules in the
 * namespace, otherwise what plain `iptables` is.
 * @throws WayoutError `no-iptables`
 */
export function detectVariant(namespace: NetworkNamespace): IptablesVariant {
  const has = IPTABLES_VARIANTS.filter((variant) => iptablesProgram(variant, 4, "restore") !== undefined);
  const [only] = has;
  if (only === undefined) throw noPrograms("nft or legacy");
  if (has.length === 1) return only;
  if (legacyInUse(namespace) && !hasRules(namespace, "nft") && hasRules(namespace, "legacy")) return "legacy";
  return plainVariant() ?? "nft";
}

function hasRules(namespace: NetworkNamespace, variant: IptablesVariant): boolean {
  return /^-A /m.test(saveNat(namespace, variant, 4));
}

/** Asking iptables-legacy for a table makes the table, so it is asked only where it is in use already. */
export function legacyInUse(
  namespace: NetworkNamespace,
  family: IpFamily = 4,
  table: "nat" | "filter" = "nat",
): boolean {
  try {
    return legacyTableNames(family === 4 ? "ip" : "ip6", namespace).includes(table);
  } catch (error) {
    rethrowMistake(error);
    // Where the list may not be read, its program may not be used either, and says so.
    return false;
  }
}

/**
 * The nat table as iptables-save prints it; empty when the host has no such program, or the table was never made.
 * @throws WayoutError `nat-refused`, `no-privilege`
 */
export function saveNat(namespace: NetworkNamespace, variant: IptablesVariant, family: IpFamily): string {
  const path = iptablesProgram(variant, family, "save");
  if (path === undefined) return "";
  if (variant === "legacy" && !legacyInUse(namespace, family)) return "";
  const ran = run(namespace, [path, "-t", "nat"]);
  if (ran.exitCode === 0) return ran.stdout;
  throw refused(`reading the nat table with ${path}`, ran.stderr);
}

/**
 * Feeds iptables-restore --noflush: all of the text's changes, or none.
 * @throws WayoutError `no-iptables`, `nat-refused`, `no-privilege`
 */
export function restoreNat(
  namespace: NetworkNamespace,
  variant: IptablesVariant,
  family: IpFamily,
  text: string,
): void {
  const path = iptablesProgram(variant, family, "restore");
  if (path === undefined) throw noPrograms(variant);
  const doing = `writing NAT rules with ${path}`;
  if (variant === "legacy") awaitXtablesLock(doing);
  const ran = run(namespace, [path, "-w", String(LOCK_WAIT_S), "--noflush"], text);
  if (ran.exitCode === 0) return;
  throw refused(doing, explain(ran.stderr, text));
}

/**
 * The programs take this lock themselves, but they do not say who holds it; and one that waits goes on when we are
 * killed, and writes rules for a caller that has gone.
 * @throws WayoutError `busy`
 */
function awaitXtablesLock(doing: string): void {
  const path = platform.environment()["XTABLES_LOCKFILE"] ?? "/run/xtables.lock";
  const others = { permissions: 0o600 };
  FileLock.take(path, { doing, timeoutMs: LOCK_WAIT_S * 1000, others })[Symbol.dispose]();
}

/** iptables-restore names a line of its input; the line itself says more to the reader of the error. */
function explain(stderr: string, text: string): string {
  const line = Number(/line:? (\d+)/.exec(stderr)?.[1] ?? 0);
  const culprit = text.split("\n")[line - 1];
  return culprit === undefined || line === 0 || culprit === "COMMIT"
    ? stderr
    : `${stderr.trim()} (${culprit})`;
}

function noPrograms(variant: string): WayoutError {
  return new WayoutError({
    code: "no-iptables",
    kind: "machine",
    doing: "looking for iptables-restore",
    said: `no program iptables-restore of the kind ${variant} is installed`,
    todo: "Install the package iptables, or choose the backend nftables, which needs no program.",
  });
}

function todoAfter(stderr: string, denied: boolean): string | undefined {
  if (/xtables lock/.test(stderr))
    return "Another program is changing iptables rules at the moment: try again.";
  return denied ? "This needs CAP_NET_ADMIN over the network namespace: run it as root." : undefined;
}

function refused(doing: string, stderr: string): WayoutError {
  const said = stderr
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("# Warning"))
    .join("; ");
  const denied = /permission denied|not permitted|must be root/i.test(stderr);
  return new WayoutError({
    code: denied ? "no-privilege" : "nat-refused",
    kind: denied ? "machine" : "broken",
    doing,
    said: said === "" ? "it ended without a message" : said,
    ...present({ todo: todoAfter(stderr, denied) }),
  });
}
