/**
 * A chain of table filter, in whichever kind of iptables it stands. One rule a prefix, first in the chain:
 *
 *     -I DOCKER-USER -m conntrack --ctorigsrc 10.88.0.0/24 -m comment --comment "wayout admits 10.88.0.0/24" -j ACCEPT
 *
 * Who began the connection decides: so one rule holds for what the pods send, for the answers, and for ICMP errors about
 * both, and lets nobody in.
 */
import {
  iptablesProgram,
  IPTABLES_VARIANTS,
  legacyInUse,
  type IptablesVariant,
} from "../nat/backends/iptables/program.ts";
import { addressOf, familyOf, isHostCidr, type IpFamily } from "../address/ip.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import type { Admitted, Door } from "./doors.ts";
import { refused, type RunProgram } from "./run-program.ts";

/** Seconds that the programs wait for each other. */
const LOCK_WAIT = "5";
const MARK = /--comment "wayout admits ([0-9a-f.:]+\/\d+)"/;

export interface ChainPlace {
  readonly chain: string;
  /** Whether it stands in the way at all, by what `iptables -S` prints of it. */
  readonly isAtWork: (printed: readonly string[]) => boolean;
}

/** Docker makes it, lets every forwarded packet pass it first, and leaves it to others. */
export const DOCKER_USER: ChainPlace = { chain: "DOCKER-USER", isAtWork: () => true };

/** An empty chain that accepts everything needs no rule; neither does one that nobody ever made. */
export const FORWARD: ChainPlace = {
  chain: "FORWARD",
  isAtWork: (printed) => printed.some((line) => line !== "-P FORWARD ACCEPT"),
};

export class IptablesDoor implements Door {
  constructor(
    private readonly node: NetworkNamespace,
    private readonly place: ChainPlace,
    private readonly run: RunProgram,
  ) {}

  async settle(cidrs: readonly string[]): Promise<readonly Admitted[] | undefined> {
    const done: Admitted[] = [];
    let atWork = false;
    for (const variant of IPTABLES_VARIANTS) {
      for (const family of [4, 6] as const) {
        const own = cidrs.filter((cidr) => familyOf(cidr) === family);
        const settled = await this.#settle(variant, family, own);
        if (settled === undefined) continue;
        atWork = true;
        done.push(...settled);
      }
    }
    return atWork ? done : undefined;
  }

  async #settle(
    variant: IptablesVariant,
    family: IpFamily,
    cidrs: readonly string[],
  ): Promise<readonly Admitted[] | undefined> {
    const { chain } = this.place;
    const list = iptablesProgram(variant, family);
    const restore = iptablesProgram(variant, family, "restore");
    if (list === undefined || restore === undefined) return undefined;
    if (variant === "legacy" && !legacyInUse(this.node, family, "filter")) return undefined;
    const listed = await this.run([list, "-w", LOCK_WAIT, "-S", chain]);
    // Each version has words of its own for a chain that is not there.
    if (listed.exitCode !== 0 && !/permission denied|not permitted|xtables lock/i.test(listed.stderr))
      return undefined;
    if (listed.exitCode !== 0) throw refused(`reading the chain ${chain} with ${list}`, listed);
    const printed = listed.stdout.split("\n").filter((line) => line !== "");
    if (!this.place.isAtWork(printed)) return undefined;
    const { text, changes } = changesOf(chain, printed, cidrs);
    if (changes.length === 0) return [];
    const ran = await this.run([restore, "-w", LOCK_WAIT, "--noflush"], text);
    if (ran.exitCode !== 0) throw refused(`admitting ${cidrs.join(", ")} in ${chain} with ${restore}`, ran);
    const program = `${family === 4 ? "iptables" : "ip6tables"}${variant === "legacy" ? "-legacy" : ""}`;
    return changes.map(({ cidr, found }) => ({
      object: `${cidr} in ${chain} (${program})`,
      found: `the rule that admits ${cidr} in ${chain} (${program}) ${found}`,
    }));
  }
}

interface ChainChange {
  readonly cidr: string;
  readonly found: string;
}

/** What iptables-restore must do to a chain, and why. Pure. */
export function changesOf(
  chain: string,
  printed: readonly string[],
  cidrs: readonly string[],
): { readonly text: string; readonly changes: readonly ChainChange[] } {
  const rules = printed.filter((line) => line.startsWith(`-A ${chain} `));
  const wanted = new Map(cidrs.map((cidr) => [ruleText(chain, cidr), cidr]));
  const end = rules.findIndex(endsChain);
  const kept = new Set<string>();
  const lines: string[] = [];
  const changes: ChainChange[] = [];
  for (const [index, rule] of rules.entries()) {
    const cidr = MARK.exec(rule)?.[1];
    if (cidr === undefined) continue;
    const reached = end < 0 || index < end;
    if (wanted.has(rule) && reached && !kept.has(rule)) {
      kept.add(rule);
      continue;
    }
    lines.push(rule.replace("-A ", "-D "));
    if (!wanted.has(rule)) changes.push({ cidr, found: "was there, and is not wanted" });
    else if (kept.has(rule)) changes.push({ cidr, found: "was there twice" });
  }
  for (const [rule, cidr] of wanted) {
    if (kept.has(rule)) continue;
    lines.push(rule.replace(`-A ${chain} `, `-I ${chain} 1 `));
    changes.push({ cidr, found: rules.includes(rule) ? "stood behind the end of the chain" : "was missing" });
  }
  return { text: `*filter\n${lines.join("\n")}\nCOMMIT\n`, changes };
}

/** As iptables prints it: a single address has no length. */
function ruleText(chain: string, cidr: string): string {
  const source = isHostCidr(cidr) ? addressOf(cidr) : cidr;
  return `-A ${chain} -m conntrack --ctorigsrc ${source} -m comment --comment "wayout admits ${cidr}" -j ACCEPT`;
}

/** Nothing behind an unconditional verdict is met. */
function endsChain(rule: string): boolean {
  return /^-A \S+ -j (?:ACCEPT|DROP|REJECT|RETURN)(?: --reject-with \S+)?$/.test(rule);
}
