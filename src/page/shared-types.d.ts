/** The agent's types come along with Bun's, whose Worker has more than a browser's. */
interface Worker {
  unref(): void;
}
