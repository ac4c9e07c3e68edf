/** A rule put in its place anew, with another number in it. */
import { nftName } from "../../linux/nftables/spelling.ts";
import { iptablesWords, isIptablesTable } from "../../linux/nftables/text/ruleset.ts";
import { command, type CommandLine } from "../../text/command.ts";
import type { Decision } from "../predict/decision.ts";
import { isLegacy, legacyProgram, ruleNumber, statelessText } from "../wording.ts";

/**
 * `nft replace rule …` or `iptables -R …`.
 * @param change of the rule's text; undefined when it changes nothing there, or no command can spell the rule
 */
export function rewritten(by: Decision, change: (text: string) => string): CommandLine | undefined {
  const { rule, table } = by;
  // What a set remembers of the old rule a new one does not change.
  if (rule === undefined || rule.expressions.some((one) => one.kind === "dynset")) return undefined;
  const words = isIptablesTable(table) ? iptablesWords(rule, table.family) : undefined;
  const text = words ?? statelessText(rule, table);
  const changed = change(text);
  if (changed === text) return undefined;
  return words === undefined ? nftReplace(by, rule.handle, changed) : iptablesReplace(by, changed);
}

function nftReplace({ table, chain }: Decision, handle: number, text: string): CommandLine | undefined {
  const [tableName, chainName] = [nftName(table.name), nftName(chain.name)];
  if (tableName === undefined || chainName === undefined) return undefined;
  return command`nft ${`replace rule ${table.family} ${tableName} ${chainName} handle ${handle} ${text}`}`;
}

/** Words alone: what is quoted in a rule, such as a comment, is left to who wrote it. */
function iptablesReplace(by: Decision, text: string): CommandLine | undefined {
  const { table, chain } = by;
  if (/["'\\]/.test(text)) return undefined;
  const plain = table.family === "ip6" ? "ip6tables" : "iptables";
  const program = isLegacy(table) ? legacyProgram(table) : plain;
  const inTable = table.name === "filter" ? [] : ["-t", table.name];
  return command`${program} ${inTable} -R ${chain.name} ${ruleNumber(by)} ${text.split(" ")}`;
}
