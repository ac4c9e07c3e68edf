/** Events of the journal, as a running agent tells them. */
import type { EventQuery, StoredEvent } from "../agent/journal/journal.ts";
import { agentSaid } from "./agent-said.ts";

/** undefined where no agent that keeps a journal can be asked. */
export async function agentsEvents(
  { since, until, pod, kind }: EventQuery,
  limit: number,
): Promise<readonly StoredEvent[] | undefined> {
  const iso = (at: number | undefined): string | undefined =>
    at === undefined ? undefined : new Date(at).toISOString();
  const said = await agentSaid<readonly (Omit<StoredEvent, "at"> & { readonly at: string })[]>(
    "/v1/history",
    {
      since: iso(since),
      until: iso(until),
      pod,
      kind,
      limit: String(limit),
    },
  );
  return said?.map(({ at, ...event }) => ({ ...event, at: Date.parse(at) }));
}
