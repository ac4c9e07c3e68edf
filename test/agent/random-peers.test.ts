/**
 * Thirteen peers that take away what we made, in a random order, while a hundred transfers last: none is cut, new ones come
 * about again, and what only a door can mend is told. PEERS_SEED chooses the order; PEERS_SECONDS goes on for so long
 * (`npm run soak:peers`), with firewalld and ufw themselves, and holds them to the second.
 */
import { expect } from "bun:test";
import { testWith } from "../support/witness.ts";
import { Course, type Outcome } from "./peers/course.ts";
import { PEERS, PRODUCTS, type Peer } from "./peers/peers.ts";

const test = testWith(["root", "nft", "iptables"]);
const seconds = Number(process.env["PEERS_SECONDS"] ?? 0);
const seed = Number(process.env["PEERS_SEED"] ?? (seconds > 0 ? Math.floor(Math.random() * 2 ** 31) : 1));
const TIMEOUT_MS = 120_000 + 2_000 * seconds;
const TRANSFERS = 100;
/** On a machine that does nothing else. Beside other tests nothing is promised but that it happens. */
const PROMISED_MS = Number(process.env["PEERS_PROMISED_MS"] ?? (seconds > 0 ? 1_000 : 20_000));
/** A transfer that hears nothing for so long is as good as cut. */
const HEARD_MS = 60_000;

for (const admit of [true, false]) {
  test(
    `${admit ? "with" : "without"} doors open, a hundred transfers outlive what peers do in a random order`,
    async () => {
      console.log(`PEERS_SEED=${seed}`);
      const course = await Course.begin({ admit, transfers: TRANSFERS, products: seconds > 0 });
      const peers = course.scene.house === undefined ? PEERS : [...PEERS, ...PRODUCTS];
      const began = performance.now();
      let turn = 0;
      do {
        for (const peer of shuffled(peers, seed + turn++)) {
          const outcome = await course.play(peer);
          if (seconds > 0) console.log(textOf(outcome));
          check(peer, outcome);
        }
      } while (performance.now() - began < (seconds * 1000) / 2);
      await course.end();
    },
    TIMEOUT_MS,
  );
}

function check(peer: Peer, { worksAgainMs = 0, toldMs = 0, cut, heardMs, named }: Outcome): void {
  const about = `${peer.name} (PEERS_SEED=${seed})`;
  expect([about, cut, heardMs < HEARD_MS]).toEqual([about, 0, true]);
  expect([about, worksAgainMs < PROMISED_MS, toldMs < PROMISED_MS]).toEqual([about, true, true]);
  if (peer.culprit === undefined || seconds === 0) return;
  const others = peer.alsoNamed ?? [];
  expect([about, named.filter((name) => !others.includes(name))]).toEqual([about, [peer.culprit]]);
}

function textOf({ peer, worksAgainMs, toldMs, cut, heardMs, named }: Outcome): string {
  const came = worksAgainMs === undefined ? `told after ${toldMs} ms` : `works after ${worksAgainMs} ms`;
  return `${peer}: ${came}, ${cut} cut, all heard of again after ${heardMs} ms, by ${named.join(", ") || "nobody"}`;
}

/** Fisher and Yates, by a generator of its own (mulberry32), so that a seed is an order. */
function shuffled<T>(values: readonly T[], from: number): T[] {
  let state = from >>> 0;
  const random = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const all = [...values];
  for (let last = all.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    [all[last], all[other]] = [all[other]!, all[last]!];
  }
  return all;
}
