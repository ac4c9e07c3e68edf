/** struct rtnl_link_stats64 (include/uapi/linux/if_link.h). Numbers are exact up to 2^53. */
export interface LinkStatistics {
  readonly rxPackets: number;
  readonly txPackets: number;
  readonly rxBytes: number;
  readonly txBytes: number;
  readonly rxErrors: number;
  readonly txErrors: number;
  readonly rxDropped: number;
  readonly txDropped: number;
  readonly multicast: number;
  readonly collisions: number;
  readonly rxOverErrors: number;
  readonly rxCrcErrors: number;
  readonly txCarrierErrors: number;
  /** Frames for which the kernel had no receiver. */
  readonly rxNoHandler: number;
}
