/** A table of `-m hashlimit --hashlimit-name NAME`, as the kernel shows it. */

export interface HashlimitTable {
  readonly name: string;
  readonly family: 4 | 6;
  readonly buckets: readonly HashlimitBucket[];
}

/** Credit is spent by packets and comes back with time. */
export interface HashlimitBucket {
  /** `10.0.0.2:0->198.51.100.9:8080`; what the mode does not tell apart is zero. */
  readonly key: string;
  readonly credit: number;
  readonly cap: number;
  /** What a packet costs: less credit than that, and the limit is reached. */
  readonly cost: number;
}

/** Lines as `60 10.0.0.2:0->198.51.100.9:8080 1920000 1920000 960000`: seconds left, key, credit, cap, cost. */
export function parseHashlimit(text: string): HashlimitBucket[] {
  return text.split("\n").flatMap((line) => {
    const [, key, credit, cap, cost] = line.trim().split(/\s+/);
    if (key === undefined || cost === undefined) return [];
    return [{ key, credit: Number(credit), cap: Number(cap), cost: Number(cost) }];
  });
}
