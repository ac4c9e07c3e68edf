import type { AttributesOf } from "../netlink/attributes.ts";
import { numberedNames } from "./constants.ts";
import { mapped, present } from "../../present.ts";
import type { metricsAttributes } from "./route-attributes.ts";

/** RTAX_*: what a route says about its path. Times in milliseconds. */
export interface RouteMetrics {
  readonly mtu?: number;
  readonly advmss?: number;
  readonly window?: number;
  readonly rttMs?: number;
  readonly rttVarianceMs?: number;
  readonly ssthresh?: number;
  readonly congestionWindow?: number;
  readonly reordering?: number;
  readonly hopLimit?: number;
  readonly initialCongestionWindow?: number;
  readonly initialReceiveWindow?: number;
  readonly features?: number;
  readonly rtoMinMs?: number;
  readonly quickAck?: boolean;
  readonly congestionControl?: string;
  /** RTAX_LOCK: metrics that path MTU discovery and TCP must not change, e.g. ["mtu"]. */
  readonly locked?: readonly string[];
}

/** RTAX_* numbers behind the bits of RTAX_LOCK. */
const LOCKABLE = numberedNames({
  mtu: 2,
  window: 3,
  rttMs: 4,
  rttVarianceMs: 5,
  ssthresh: 6,
  congestionWindow: 7,
  advmss: 8,
  reordering: 9,
  hopLimit: 10,
  rtoMinMs: 13,
});

const RTT_PER_MS = 8;
const RTT_VARIANCE_PER_MS = 4;

export function metricsOf(a: AttributesOf<typeof metricsAttributes>): RouteMetrics {
  const metrics = present({
    mtu: a.mtu,
    advmss: a.advmss,
    window: a.window,
    rttMs: mapped(a.rtt, (value) => value / RTT_PER_MS),
    rttVarianceMs: mapped(a.rttVariance, (value) => value / RTT_VARIANCE_PER_MS),
    ssthresh: a.ssthresh,
    congestionWindow: a.congestionWindow,
    reordering: a.reordering,
    hopLimit: a.hopLimit,
    initialCongestionWindow: a.initialCongestionWindow,
    initialReceiveWindow: a.initialReceiveWindow,
    features: a.features,
    rtoMinMs: a.rtoMin,
    quickAck: a.quickAck === undefined ? undefined : a.quickAck !== 0,
    congestionControl: a.congestionControl,
    locked: mapped(a.lock, (bits) =>
      Object.entries(LOCKABLE.numbers)
        .filter(([, number]) => (bits & (1 << number)) !== 0)
        .map(([name]) => name),
    ),
  });
  return metrics;
}

export function metricsAttributesOf(
  metrics: RouteMetrics,
): AttributesOf<typeof metricsAttributes> | undefined {
  const attributes = present({
    lock: mapped(metrics.locked, (names) =>
      names.reduce((bits, name) => bits | (1 << LOCKABLE.numberOf(name as `${number}`)), 0),
    ),
    mtu: metrics.mtu,
    advmss: metrics.advmss,
    window: metrics.window,
    rtt: mapped(metrics.rttMs, (value) => Math.round(value * RTT_PER_MS)),
    rttVariance: mapped(metrics.rttVarianceMs, (value) => Math.round(value * RTT_VARIANCE_PER_MS)),
    ssthresh: metrics.ssthresh,
    congestionWindow: metrics.congestionWindow,
    reordering: metrics.reordering,
    hopLimit: metrics.hopLimit,
    initialCongestionWindow: metrics.initialCongestionWindow,
    initialReceiveWindow: metrics.initialReceiveWindow,
    features: metrics.features,
    rtoMin: metrics.rtoMinMs,
    quickAck: mapped(metrics.quickAck, (on) => (on ? 1 : 0)),
    congestionControl: metrics.congestionControl,
  });
  return Object.keys(attributes).length === 0 ? undefined : attributes;
}
