// A page of SAEs between sparsity and fidelity.

import "./explore.js";
import { planes } from "./pareto.js";

planes(document.querySelector("[data-plane]"));
