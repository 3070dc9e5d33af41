"""An SAE that SAELens loads has what SAEBench asks of one.

What that is was read in sae-bench 0.6.0 (`sae_bench_utils/general_utils.py`, `evals/*/main.py`).
It wants an older numpy than we do, so its own code is asked only where somebody installed it.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.conftest import families, make_spec, model_folder, spec_of, tokens_folder
from workers.engine.config import RunSpec
from workers.engine.saved.export_job import export_saved
from workers.engine.saved.formats import Format
from workers.engine.train import train

sae_lens = pytest.importorskip(
    "sae_lens", reason="sae-lens is not installed: pip install -e '.[interop]'"
)
pytestmark = pytest.mark.interop
__all__ = ["families", "make_spec", "model_folder", "spec_of", "tokens_folder"]

MakeSpec = Callable[..., RunSpec]
TRAINED = [("standard", None), ("jumprelu", None), ("standard", 5.0)]


@pytest.fixture(params=TRAINED, ids=["standard", "jumprelu", "topk"])
def folder(request: pytest.FixtureRequest, make_spec: MakeSpec, tmp_path: Path) -> Path:
    """As a training leaves it, with a constant folded in, and exported with unit norm."""
    architecture, top_k = request.param
    spec = make_spec(
        architecture, top_k_sparsity=top_k, normalize_activations="constant_norm", num_steps=20
    )
    assert list(train(spec, tmp_path))[-1].to_dict()["event"] == "completed"
    export_saved(tmp_path / "sae", Format.SAELENS, tmp_path / "unit", unit_norm=True)
    return tmp_path / "unit"


def loaded(folder: Path) -> Any:
    return sae_lens.SAE.load_from_disk(folder, device="cpu")


def norms(sae: Any) -> torch.Tensor:
    found: torch.Tensor = sae.W_dec.detach().norm(dim=1)
    return found


def test_rows_of_the_decoder_have_norm_1_where_a_folded_constant_had_changed_them(
    folder: Path,
) -> None:
    """SAEBench allows 1e-5 in float32."""
    assert float((norms(loaded(folder.with_name("sae"))) - 1).abs().min()) > 1e-3
    assert float((norms(loaded(folder)) - 1).abs().max()) < 1e-5


def test_weights_and_functions_are_there(folder: Path) -> None:
    sae = loaded(folder).to(device="cpu", dtype=torch.float32)
    d_in, d_sae = sae.cfg.d_in, sae.cfg.d_sae
    shapes = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_in), "b_enc": (d_sae,), "b_dec": (d_in,)}
    assert {name: tuple(getattr(sae, name).shape) for name in shapes} == shapes
    assert (sae.device, sae.dtype) == (torch.device("cpu"), torch.float32)
    x = torch.randn(2, 7, d_in, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(sae.decode(sae.encode(x)), sae(x), atol=1e-5)
        assert sae.encode(x).shape == (2, 7, d_sae)
    assert json.loads(json.dumps(sae.cfg.to_dict()))["dtype"] == "float32"


def test_it_says_where_in_which_model_it_reads(folder: Path) -> None:
    """The layer is the first number in the hook's name."""
    metadata = loaded(folder).cfg.metadata
    assert metadata.model_name
    found = re.search(r"\d+", metadata.hook_name)
    assert found is not None
    assert (int(found[0]), metadata.hook_name) == (1, "blocks.1.hook_resid_post")
    assert (metadata.context_size, metadata.prepend_bos) == (64, True)
    assert metadata.model_from_pretrained_kwargs == {}


def test_saebench_takes_it_without_a_warning(folder: Path) -> None:
    utils = pytest.importorskip(
        "sae_bench.sae_bench_utils.general_utils", reason="sae-bench is not installed"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, sae, _ = utils.load_and_format_sae("ours", loaded(folder), "cpu")
    assert (sae.cfg.hook_layer, sae.cfg.hook_name) == (1, "blocks.1.hook_resid_post")
    assert (sae.cfg.context_size, sae.cfg.prepend_bos) == (64, True)
    assert sae.cfg.architecture_str in ("standard", "jumprelu", "topk")
