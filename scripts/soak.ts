/**
 * Pods come and go for a while (600 s, or the seconds given), beside a living agent: attached and detached, added and
 * deleted by the plugin, killed half-way, flushed under them, while the policy is another one each second and 5 000 flows a second
 * begin. What is left is counted every ten seconds, and must not grow.
 */
import { join } from "node:path";
import { runIsolated } from "./isolation.ts";

const seconds = process.argv[2] ?? "600";
process.exit(runIsolated([process.execPath, join(import.meta.dir, "soak-inside.ts"), seconds]));
