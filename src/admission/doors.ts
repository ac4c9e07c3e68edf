/** The doors by which other products let packets through their filters; a policy names them under `admit`. */
export const ADMISSION_DOORS = ["docker-user", "firewalld-zone", "ufw-route", "iptables-forward"] as const;

export type AdmissionDoor = (typeof ADMISSION_DOORS)[number];

/** One thing that was not as it shall be, and is now. */
export interface Admitted {
  /** `10.88.0.0/24 in DOCKER-USER (iptables)`; two changes of one thing have the same text. */
  readonly object: string;
  /** A sentence. */
  readonly found: string;
}

/** One product's door in one namespace. */
export interface Door {
  /**
   * Admits packets from these prefixes, the answers to them, and nothing else of ours. None: all of ours is taken back.
   * undefined where the product is not at work: then nothing of it stands in the way, and there is nothing to admit to.
   * @throws WayoutError
   */
  settle(cidrs: readonly string[]): Promise<readonly Admitted[] | undefined>;
}
