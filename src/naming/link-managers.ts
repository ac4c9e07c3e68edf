/** Programs that set up a node's links as their own files say, and so undo what others did there. */

export interface LinkManager {
  readonly product: string;
  /** A file that it writes when it runs. */
  readonly mark: string;
}

export const NETWORKD: LinkManager = { product: "systemd-networkd", mark: "/run/systemd/netif/state" };

export const LINK_MANAGERS: readonly LinkManager[] = [
  NETWORKD,
  { product: "NetworkManager", mark: "/run/NetworkManager/NetworkManager.pid" },
];

export const LINK_MANAGER_MARKS: readonly string[] = LINK_MANAGERS.map(({ mark }) => mark);
