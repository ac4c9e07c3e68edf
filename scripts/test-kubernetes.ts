/** The tests that need a real kube-apiserver: builds it where it is not there yet (kubernetes-server.ts), then runs them. */
import { join } from "node:path";
import { makeKubernetesPrograms } from "./kubernetes-server.ts";
import { installWitnesses } from "./witnesses.ts";

installWitnesses();
makeKubernetesPrograms();
const child = Bun.spawnSync(
  [process.execPath, join(import.meta.dir, "test.ts"), "test/kubernetes/real-server.test.ts"],
  { stdio: ["inherit", "inherit", "inherit"], env: { ...process.env, KUBERNETES_TESTS: "1" } },
);
process.exit(child.exitCode);
