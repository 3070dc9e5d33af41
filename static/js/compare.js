// Several runs on shared charts.

import { Curve } from "./chart.js";
import { Explorer } from "./explore.js";

export function overlay(root, runs) {
  const curves = [...root.querySelectorAll("[data-chart]")].map((figure) => new Curve(figure, runs));
  for (const run of runs) {
    run.curves = curves;
    run.show(true);
  }
  new Explorer(curves, root.querySelector("[data-explore]"), { marks: false });
}
