/**
 * ufw's own rule for forwarded packets, `ufw route allow from 10.88.0.0/24 comment wayout`. ufw keeps it in its files, so it
 * is there after a reboot as well; the comment says whose it is.
 */
import { familyOf, hostCidr } from "../address/ip.ts";
import { readTextIfThere } from "../kernel/file.ts";
import type { Admitted, Door } from "./doors.ts";
import { refused, which, type RunProgram } from "./run-program.ts";

const CONFIGURATION = "/etc/ufw/ufw.conf";
const RULE_FILES = ["/etc/ufw/user.rules", "/etc/ufw/user6.rules"] as const;
const COMMENT = "wayout";
/** Chains in which its rules stand while it is at work. */
const CHAIN = { 4: ["iptables", "ufw-user-forward"], 6: ["ip6tables", "ufw6-user-forward"] } as const;

export class UfwDoor implements Door {
  constructor(
    private readonly run: RunProgram,
    private readonly read: (path: string) => string | undefined = readTextIfThere,
  ) {}

  async settle(cidrs: readonly string[]): Promise<readonly Admitted[] | undefined> {
    const there = ownRules(RULE_FILES.flatMap((path) => this.read(path)?.split("\n") ?? []));
    const isEnabled = /^ENABLED=["']?yes/m.test(this.read(CONFIGURATION) ?? "");
    const surplus = there.filter((cidr) => !cidrs.includes(cidr));
    if (!isEnabled && surplus.length === 0) return undefined;
    const program = which("ufw", "ufw");
    const lost = isEnabled ? await this.#lost(there.filter((cidr) => cidrs.includes(cidr))) : [];
    const missing = isEnabled ? cidrs.filter((cidr) => !there.includes(cidr)) : [];
    // What its files hold and the kernel does not is only written again when it is taken away first.
    for (const cidr of [...surplus, ...lost]) {
      await this.#ask([program, "route", "delete", "allow", "from", cidr], `withdrawing ${cidr} from ufw`);
    }
    for (const cidr of [...missing, ...lost]) {
      await this.#ask(
        [program, "route", "allow", "from", cidr, "comment", COMMENT],
        `admitting ${cidr} in ufw`,
      );
    }
    const told = (cidr: string, found: string): Admitted => ({
      object: `${cidr} in ufw`,
      found: `ufw's route rule for ${cidr} ${found}`,
    });
    return [
      ...missing.map((cidr) => told(cidr, "was missing")),
      ...lost.map((cidr) => told(cidr, "was in its files only")),
      ...surplus.map((cidr) => told(cidr, "was there, and is not wanted")),
    ];
  }

  /** Those that the chain in the kernel lacks. Where there is no such chain (a flush), ufw stops nothing. */
  async #lost(cidrs: readonly string[]): Promise<string[]> {
    const lost: string[] = [];
    for (const family of [4, 6] as const) {
      const own = cidrs.filter((cidr) => familyOf(cidr) === family);
      if (own.length === 0) continue;
      const [iptables, chain] = CHAIN[family];
      const listed = await this.run([which(iptables, "ufw"), "-w", "5", "-S", chain]);
      if (listed.exitCode !== 0) continue;
      const rules = listed.stdout.split("\n");
      lost.push(...own.filter((cidr) => !rules.includes(`-A ${chain} -s ${cidr} -j ACCEPT`)));
    }
    return lost;
  }

  async #ask(argv: readonly string[], doing: string): Promise<void> {
    const ran = await this.run(argv);
    if (ran.exitCode !== 0) throw refused(doing, ran);
  }
}

/** The sources of our own route rules, as ufw's files name them. Pure. */
export function ownRules(lines: readonly string[]): string[] {
  const comment = `comment=${Buffer.from(COMMENT).toString("hex")}`;
  return lines.flatMap((line) => {
    const rule = /^### tuple ### route:allow any any \S+ any (\S+) in(?: .*)?$/.exec(line);
    return rule !== null && line.split(" ").includes(comment) ? [withLength(rule[1]!)] : [];
  });
}

/** ufw writes a single address without its length. */
function withLength(source: string): string {
  if (source.includes("/")) return source;
  return hostCidr(source);
}
