/**
 * Peers take away what an agent keeps, in a random order, for a while (600 s, or the seconds given), with firewalld and ufw
 * themselves where they can be fetched: test/agent/random-peers.test.ts for longer, and held to the second.
 */
import { join } from "node:path";

const [seconds = "600", seed] = process.argv.slice(2);
const child = Bun.spawnSync(
  [process.execPath, join(import.meta.dir, "test.ts"), "test/agent/random-peers.test.ts"],
  {
    stdio: ["inherit", "inherit", "inherit"],
    env: { ...process.env, PEERS_SECONDS: seconds, ...(seed === undefined ? {} : { PEERS_SEED: seed }) },
  },
);
process.exit(child.exitCode);
