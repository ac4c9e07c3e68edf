import { requireLab } from "../lab/up-and-down.ts";
import { ensureKeeper, findKeeper, runBesideKeeper } from "../lab/keeper.ts";
import { isRoot } from "../lab/realm.ts";

/**
 * An ordinary user's lab lives beside his keeper process: hands the command over to there. Returns false for root (of
 * the machine or beside the keeper), who does it himself, and where there is no keeper and none shall be made.
 */
export function delegated(args: readonly string[], keeper: "make" | "find" | "need"): boolean {
  if (isRoot()) return false;
  const found = keeper === "make" ? ensureKeeper() : findKeeper();
  if (found === undefined) {
    if (keeper === "need") requireLab(args.slice(0, 2).join(" "));
    return false;
  }
  process.exitCode = runBesideKeeper(found, args);
  return true;
}
