/** A finding (generation-memory.ts) that holds until it is dropped: rules that a person took away. */

const REMOVED = "removed";

/** That a person took an owner's rules away: nobody but the owner's own next wish puts them back. */
export function removedText(owner: string): string {
  return JSON.stringify([REMOVED, owner]);
}

/** Whether a finding is one of those, of any owner. */
export function isRemovedText(finding: string): boolean {
  return finding.startsWith(`["${REMOVED}",`);
}
