/** Where an agent writes when nothing else was said. */
export const JOURNAL_PATH = "/var/lib/wayout/journal.db";
