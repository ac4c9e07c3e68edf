/** The agent's log: one line an event, and only for what happened. */
export type LogFormat = "json" | "text";
export type LogLevel = "info" | "warn" | "error";

/** Plain values by name; what they are called stays the same from version to version. */
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;

export interface AgentLog {
  readonly write: (level: LogLevel, event: string, fields?: LogFields) => void;
}

/** @param put writes one line, without its end */
export function agentLog(
  format: LogFormat,
  put: (line: string) => void,
  now: () => Date = () => new Date(),
): AgentLog {
  return {
    write(level, event, fields = {}) {
      const at = now().toISOString();
      if (format === "json") {
        put(JSON.stringify({ at, level, event, ...fields }));
        return;
      }
      const said = Object.entries(fields)
        .filter(([, value]) => value !== undefined)
        .map(
          ([name, value]) => `${name}=${/^[\w./:-]+$/.test(String(value)) ? value : JSON.stringify(value)}`,
        );
      put([at, level.padEnd(5), event, ...said].join(" "));
    },
  };
}
