"""What is written in a format is read back as the same SAE; what a tool lacks is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from tests.engine.saes import (
    NEXT,
    READS,
    an_sae,
    every_sae,
    named,
    saelens_has,
    sparsify_has,
    wide,
)
from workers.engine.language_model import Site
from workers.engine.saved import (
    CannotExport,
    Kind,
    SavedSae,
    UnreadableSae,
    open_sae,
    plain,
    saelens,
    sparsify,
)
from workers.engine.saved.hook_names import site_of

Write = Callable[[SavedSae, Path], Path]
HAVE: list[tuple[Write, SavedSae]] = [
    (write, sae)
    for write, has in (
        (saelens.write, saelens_has),
        (sparsify.write, sparsify_has),
        (plain.write, lambda sae: True),
    )
    for sae in every_sae()
    if has(sae)
]


def label(value: Any) -> str:
    return named(value) if isinstance(value, SavedSae) else value.__module__.rpartition(".")[2]


@pytest.mark.parametrize(("write", "sae"), HAVE, ids=label)
def test_what_is_written_is_read_back(write: Write, sae: SavedSae, tmp_path: Path) -> None:
    found = open_sae(write(sae, tmp_path / "sae"))
    assert (found.kind, found.k, found.per_token) == (sae.kind, sae.k, sae.per_token)
    assert (found.reads, found.writes) == (sae.reads, sae.writes)
    for name in ("W_enc", "W_dec", "b_dec", "threshold", "W_skip"):
        own, read = getattr(sae, name), getattr(found, name)
        assert own is read is None or torch.equal(own, read), name
    torch.testing.assert_close(found.b_enc, sae.b_enc, atol=1e-6, rtol=1e-6)


TWO_SIDED = [(write, sae) for write, sae in HAVE if sae.is_transcoder and not sae.per_token]


@pytest.mark.parametrize(
    ("write", "sae"), [one for one in TWO_SIDED if one[0] is not sparsify.write], ids=label
)
def test_what_reads_and_writes_different_widths_keeps_both(
    write: Write, sae: SavedSae, tmp_path: Path
) -> None:
    sae = wide(sae, 12)
    found = open_sae(write(sae, tmp_path))
    assert (found.d_in, found.d_out) == (32, 12)
    x = torch.randn(9, 32)
    y = torch.randn(9, 12)
    assert torch.equal(found.reconstruct(x, y)[1], sae.reconstruct(x, y)[1])


@pytest.mark.parametrize("sae", every_sae(), ids=named)
def test_a_plain_folder_can_be_read_with_nothing_but_its_equations(
    sae: SavedSae, tmp_path: Path
) -> None:
    """Evaluated in float64 from the text in cfg.json, by somebody who knows NumPy."""
    plain.write(sae, tmp_path)
    config = json.loads((tmp_path / "cfg.json").read_text())
    w = {n: v.astype(np.float64) for n, v in load_file(tmp_path / plain.WEIGHTS).items()}
    assert sorted(config["tensors"]) == sorted(w)
    for name, sides in config["tensors"].items():
        assert w[name].shape == tuple(config[side] for side in sides)
    g = torch.Generator().manual_seed(3)
    x, y = torch.randn(2, 7, sae.d_in, generator=g) * 4 + 1
    found = computed(config, w, x.double().numpy(), y.double().numpy())
    expected = sae.reconstruct(x, y if sae.is_transcoder else x)[1]
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-4)


def computed(
    config: dict[str, Any], w: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    def mean(v: np.ndarray) -> np.ndarray:
        return v.mean(1, keepdims=True)

    def std(v: np.ndarray) -> np.ndarray:
        return v.std(1, ddof=1, keepdims=True)

    def relu(v: np.ndarray) -> np.ndarray:
        return np.maximum(v, 0)

    known: dict[str, Any] = w | {"x": x, "mean": mean, "std": std, "relu": relu}
    for line in config["equations"]:
        text, target = line.split(", std with")[0], "is the reconstruction"
        if "k largest" in text:
            pre = known["pre"]
            least = np.sort(pre, 1)[:, -config["k"]][:, None]
            known["z"] = relu(pre) * (pre >= least)
        elif target in text:
            expression = text.replace(target, "").replace("the target", "true_y")
            known["y"] = eval(expression, known | {"true_y": y})
        else:
            exec(text, known)
    return known["y"]


def test_saelens_has_no_topk_or_per_token_transcoder(tmp_path: Path) -> None:
    with pytest.raises(CannotExport, match="no TopK transcoder: export it to sparsify or as plain"):
        saelens.write(an_sae(Kind.TOPK, "transcoder"), tmp_path / "a")
    with pytest.raises(CannotExport, match="no TopK skip transcoder"):
        saelens.write(an_sae(Kind.TOPK, "skip"), tmp_path / "a")
    with pytest.raises(CannotExport, match="output of a transcoder per token"):
        saelens.write(an_sae(Kind.RELU, "transcoder", per_token=True), tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("sae", "why"),
    [
        (an_sae(Kind.RELU), "TopK SAEs only, and this is a relu"),
        (an_sae(Kind.JUMPRELU, "transcoder"), "TopK SAEs only"),
        (an_sae(Kind.TOPK, per_token=True), "does not normalize"),
        (wide(an_sae(Kind.TOPK, "transcoder"), 12), "reads 32 and writes 12 values"),
        (replace(an_sae(Kind.TOPK), reads=None, writes=None), "does not say which"),
        (
            replace(an_sae(Kind.TOPK, "transcoder"), writes=Site(3, "resid_post")),
            "this reads blocks.1.hook_resid_post and writes blocks.3.hook_resid_post",
        ),
    ],
    ids=["relu", "jumprelu", "per-token", "widths", "nowhere", "far"],
)
def test_sparsify_refuses_what_it_would_compute_differently(
    sae: SavedSae, why: str, tmp_path: Path
) -> None:
    with pytest.raises(CannotExport, match=why) as refused:
        sparsify.write(sae, tmp_path / "a")
    assert "plain safetensors." in str(refused.value)
    assert not (tmp_path / "a").exists()


def test_sparsify_gets_a_folder_for_the_layer_and_what_it_was_trained_with(tmp_path: Path) -> None:
    place = sparsify.write(an_sae(Kind.TOPK, "skip"), tmp_path)
    assert place == tmp_path / "layers.2"
    config = json.loads((place / "cfg.json").read_text())
    run = json.loads((tmp_path / "config.json").read_text())
    assert (config["transcode"], config["skip_connection"], config["d_in"]) == (True, True, 32)
    assert (run["hookpoints"], run["sae"] | {"d_in": 32}) == (["layers.2"], config)


OF_MLP = {"reads": Site(1, "mlp_in"), "writes": Site(1, "mlp_out")}


@pytest.mark.parametrize("write", [saelens.write, sparsify.write, plain.write], ids=label)
@pytest.mark.parametrize("shape", ["transcoder", "skip"])
def test_a_transcoder_of_an_mlp_is_read_back_as_one(
    write: Write, shape: str, tmp_path: Path
) -> None:
    kind = Kind.TOPK if write is sparsify.write else Kind.RELU
    sae = replace(an_sae(kind, shape), **OF_MLP)
    place = write(sae, tmp_path / "sae")
    assert (place.name == "layers.1.mlp") is (write is sparsify.write)
    found = open_sae(place)
    assert (found.reads, found.writes) == (sae.reads, sae.writes)
    assert torch.equal(found.W_dec, sae.W_dec)


def test_an_sae_of_an_mlps_input_is_read_back_where_it_has_a_name(tmp_path: Path) -> None:
    sae = replace(an_sae(Kind.TOPK), reads=Site(1, "mlp_in"), writes=Site(1, "mlp_in"))
    for number, write in enumerate((saelens.write, plain.write)):
        assert open_sae(write(sae, tmp_path / str(number))).writes == Site(1, "mlp_in")
    with pytest.raises(CannotExport, match="write the output of a module"):
        sparsify.write(sae, tmp_path / "a")


@pytest.mark.parametrize("name", ["blocks.1.ln2.hook_normalized", "blocks.1.hook_mlp_in"])
def test_what_lies_before_a_norms_gain_is_not_taken_for_an_mlps_input(name: str) -> None:
    assert site_of(name) is None


def test_the_name_of_a_layer_in_sparsify_is_kept(tmp_path: Path) -> None:
    place = sparsify.write(an_sae(Kind.TOPK), tmp_path / "a")
    gpt2 = open_sae(place.rename(tmp_path / "h.1"))
    assert gpt2.reads == READS
    assert sparsify.write(gpt2, tmp_path / "b").name == "h.1"
    elsewhere = replace(gpt2, metadata={"hookpoint": "../../h.1"})
    assert sparsify.write(elsewhere, tmp_path / "c") == tmp_path / "c" / "layers.1"


def test_what_came_with_an_sae_goes_on_with_it(tmp_path: Path) -> None:
    sae = replace(an_sae(Kind.RELU), metadata={"model_name": "gpt2", "hook_name": "blocks.9.x"})
    for number, write in enumerate((saelens.write, plain.write)):
        found = open_sae(write(sae, tmp_path / str(number))).metadata
        assert (found["model_name"], found["hook_name"]) == ("gpt2", "blocks.1.hook_resid_post")
        assert "hook_name_out" not in found


def test_a_skip_transcoder_of_one_layer_stays_one(tmp_path: Path) -> None:
    sae = replace(an_sae(Kind.RELU, "skip"), writes=READS)
    for number, write in enumerate((saelens.write, plain.write)):
        assert open_sae(write(sae, tmp_path / str(number))).writes == READS


def test_k_beyond_the_latents_is_all_of_them(tmp_path: Path) -> None:
    sae = replace(an_sae(Kind.TOPK), k=1000)
    for number, write in enumerate((saelens.write, sparsify.write)):
        place = write(sae, tmp_path / str(number))
        assert json.loads((place / "cfg.json").read_text())["k"] == sae.d_sae


def test_a_plain_folder_of_a_later_version_is_refused(tmp_path: Path) -> None:
    plain.write(an_sae(Kind.RELU), tmp_path)
    config = json.loads((tmp_path / "cfg.json").read_text()) | {"version": 3}
    (tmp_path / "cfg.json").write_text(json.dumps(config))
    with pytest.raises(UnreadableSae, match="version 3"):
        open_sae(tmp_path)


def test_a_plain_folder_from_before_there_was_a_version_is_read(tmp_path: Path) -> None:
    sae = an_sae(Kind.TOPK, "transcoder", per_token=True)
    plain.write(sae, tmp_path)
    config = json.loads((tmp_path / "cfg.json").read_text())
    for name in ("version", "tensors", "equations"):
        del config[name]
    (tmp_path / "cfg.json").write_text(json.dumps(config | {"architecture": "transcoder"}))
    found = open_sae(tmp_path)
    assert (found.kind, found.per_token, found.writes) == (Kind.TOPK, True, NEXT)


def test_an_old_activation_that_we_do_not_have_is_refused(tmp_path: Path) -> None:
    saelens.write(an_sae(Kind.RELU), tmp_path)
    config = json.loads((tmp_path / "cfg.json").read_text())
    del config["metadata"]
    (tmp_path / "cfg.json").write_text(json.dumps(config | {"activation_fn_str": "tanh-relu"}))
    with pytest.raises(UnreadableSae, match="its activation is tanh-relu"):
        open_sae(tmp_path)
