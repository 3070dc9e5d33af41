// Several runs on shared charts, and where each stands between sparsity and fidelity.

import { Curve } from "./chart.js";
import { Explorer } from "./explore.js";
import { planes } from "./pareto.js";

export function overlay(root, runs) {
  const curves = [...root.querySelectorAll("[data-chart]")].map((figure) => new Curve(figure, runs));
  for (const run of runs) {
    run.curves = curves;
    run.show(true);
  }
  new Explorer(curves, root.querySelector("[data-explore]"), { marks: false });
  planes(root);
}
