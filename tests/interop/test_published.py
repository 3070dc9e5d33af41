"""The two lines of a published SAE's card, run by somebody who has nothing but the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.saes import an_sae
from tests.workers.conftest import writable_hub
from tests.workers.fake_hub_writes import WritableHub
from workers.engine.saved import Kind, plain
from workers.engine.saved.card import Facts, Source
from workers.engine.saved.export_job import export_saved
from workers.engine.saved.formats import Format
from workers.engine.saved.proof import fixed_batch
from workers.engine.saved.tools import TOOLS, import_sparsify
from workers.hub_upload import push

pytestmark = pytest.mark.interop
__all__ = ["writable_hub"]

SAE = an_sae(Kind.TOPK)
REPOSITORY = "owner/saes"


def loaded(hub: WritableHub, tmp_path: Path, format: Format) -> Any:
    """What the snippet leaves, after a push and with the exported folder gone."""
    saved = plain.write(SAE, tmp_path / "saved")
    out, source = tmp_path / "out", Source("l5", REPOSITORY)
    told = export_saved(saved, format, out, Facts("l5"), source)
    push(out, REPOSITORY, "l5", told["files"], private=False)
    card = (hub.repository("models", REPOSITORY) / "README.md").read_text()
    found: dict[str, Any] = {}
    exec(card.split("```python\n")[1].split("```")[0], found)
    return found.get("sae", found.get("weights"))


def largest(found: torch.Tensor) -> float:
    x, _ = fixed_batch(SAE)
    expected = SAE.reconstruct(x, x)[1]
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.skipif(TOOLS[Format.SAELENS].version is None, reason="sae-lens is not installed")
def test_saelens_loads_it(writable_hub: WritableHub, tmp_path: Path) -> None:
    sae = loaded(writable_hub, tmp_path, Format.SAELENS)
    with torch.no_grad():
        assert largest(sae(fixed_batch(SAE)[0])) < 1e-5


@pytest.mark.skipif(TOOLS[Format.SPARSIFY].version is None, reason="eai-sparsify is not installed")
def test_sparsify_loads_it(writable_hub: WritableHub, tmp_path: Path) -> None:
    import_sparsify()
    coder = loaded(writable_hub, tmp_path, Format.SPARSIFY)
    with torch.no_grad():
        assert largest(coder(fixed_batch(SAE)[0]).sae_out) < 1e-5


def test_safetensors_loads_it(writable_hub: WritableHub, tmp_path: Path) -> None:
    weights = loaded(writable_hub, tmp_path, Format.SAFETENSORS)
    assert torch.equal(weights["W_dec"], SAE.W_dec)
