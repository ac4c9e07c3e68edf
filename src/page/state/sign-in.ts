/** Getting in: the address from `wayout page` has a code behind #, which is changed for a cookie that no script can read. */
import { signal } from "@preact/signals";
import { first } from "./first.ts";

/** `unused`: there was a code, and it did not open: too late, or used before. */
export const entrance = signal<"in" | "shut" | "unused">("shut");

export async function enter(): Promise<void> {
  const code = /^#code=([\w-]+)$/.exec(location.hash)?.[1];
  if (code !== undefined) {
    history.replaceState(null, "", "#/");
    entrance.value = (await session({ method: "POST", body: code })) ? "in" : "unused";
    if (entrance.value === "in") return;
  }
  if (first !== undefined || (await session({}))) entrance.value = "in";
}

async function session(init: RequestInit): Promise<boolean> {
  try {
    const answer = await fetch("/session", init);
    return ((await answer.json()) as { entered?: boolean }).entered === true;
  } catch {
    return false;
  }
}
