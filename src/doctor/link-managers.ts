/** What the programs that manage a node's links may have done to those that others made. */
import { NETWORKD_SETTINGS } from "../linux/settings-files.ts";
import { parseNetworkdConf, type NetworkdSettings } from "../linux/networkd-conf.ts";
import { LINK_MANAGERS, NETWORKD } from "../naming/link-managers.ts";
import type { Snapshot } from "../snapshot/snapshot.ts";
import type { Evidence } from "./finding.ts";

/** Who did something to a link. @param did in words that follow "the program that" */
export function linkManager({ files }: Snapshot, did: string): string {
  const here = LINK_MANAGERS.filter(({ mark }) => files.some(({ path }) => path === mark));
  const who =
    here.length === 0
      ? "often NetworkManager or systemd-networkd"
      : `likely ${here.map(({ product }) => product).join(" or ")}, which manages links here`;
  return `the program that ${did} (${who})`;
}

const OPTIONS = {
  foreignRoutes: { option: "ManageForeignRoutes", what: "routes" },
  foreignRules: { option: "ManageForeignRoutingPolicyRules", what: "policy rules" },
} as const;

/** What systemd-networkd deletes that it did not make, and how it is kept from that; undefined where it does not. */
export function networkdDeletes(
  { files }: Snapshot,
  which: keyof NetworkdSettings,
): { readonly evidence: Evidence; readonly advice: string } | undefined {
  const mark = files.find(({ path }) => path === NETWORKD.mark);
  const { directories, main } = NETWORKD_SETTINGS;
  const mains = main.directories.map((directory) => `${directory}/${main.name}`);
  const settings = files.filter(
    ({ path }) => mains.includes(path) || directories.some((directory) => path.startsWith(`${directory}/`)),
  );
  if (mark === undefined || settings.some(({ text }) => text === undefined)) return undefined;
  if (!parseNetworkdConf(settings.map(({ text }) => text!))[which]) return undefined;
  const { option, what } = OPTIONS[which];
  return {
    evidence: {
      source: `${mark.path}, ${settings.map(({ path }) => path).join(", ") || `no ${mains[0]}`}`,
      value: `systemd-networkd manages links here, and may delete ${what} that it did not make: nothing says ${option}=no`,
    },
    advice: `keep systemd-networkd from deleting ${what} of others: ${option}=no under [Network] in ${mains[0]}, then systemctl restart systemd-networkd`,
  };
}
