/** The agent's types come along with Bun's, whose Worker has more than a browser's. */
interface Worker {
  unref(): void;
}

/** What agent/page/bundle.ts puts there. */
declare module "*/plot.js" {
  import uPlot from "uplot";
  export default uPlot;
}
