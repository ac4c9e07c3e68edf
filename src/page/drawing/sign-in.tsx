/** What those see who are not in: how to get in, and nothing else. */
import type { JSX } from "preact";
import { entrance } from "../state/sign-in.ts";
import { Command } from "./parts.tsx";

export function Entrance(): JSX.Element {
  return (
    <main class="entrance">
      <svg viewBox="0 0 32 32" aria-hidden="true">
        <rect width="32" height="32" rx="8" />
        <path d="M7 11v10h7M14 16h9m-4-5 5 5-5 5" />
      </svg>
      <h1>This page shows how a node's pods reach the outside.</h1>
      {entrance.value === "unused" ? (
        <p>That address was used already, or its minute is over. Ask for a new one on the node:</p>
      ) : (
        <p>To get in, ask on the node for an address that lets this browser in:</p>
      )}
      <Command text="sudo wayout page" />
      <p class="quiet">It holds once, within a minute. The browser then stays in for twelve hours.</p>
    </main>
  );
}
