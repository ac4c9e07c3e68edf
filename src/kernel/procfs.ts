import type { NetworkNamespace } from "./namespace.ts";

/** /proc/net/snmp and netstat: counters by "Ip.ForwDatagrams", "TcpExt.IPReversePathFilter". */
export type Counters = Readonly<Record<string, number>>;

/** /proc/net/{snmp,netstat,snmp6} of a namespace, in one record. */
export declare function networkCounters(namespace: NetworkNamespace | undefined): Counters;

/** /proc/net/stat/NAME (nf_conntrack, arp_cache, ndisc_cache, rt_cache): one record a CPU; undefined when absent. */
export declare function cpuStatistics(
  namespace: NetworkNamespace | undefined,
  name: string,
): readonly Counters[] | undefined;
