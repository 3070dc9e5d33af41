"""Features found in one pass are those that a naive search through all activations finds."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.engine.conftest import FAMILIES, WIDTH
from tests.engine.test_evaluation import F, random_sae, spec_of, write
from workers.engine.config.sae_job import SaeJobSpec
from workers.engine.failure import TrainingError
from workers.engine.features import FeatureTable, UnreadableTable, table
from workers.engine.features.activity import Activity
from workers.engine.features.collect import collect_features, read_text
from workers.engine.features.directions import logit_effects, neighbours
from workers.engine.features.examples import AFTER, BEFORE, TopExamples
from workers.engine.features.probe import probe
from workers.engine.features.table import Feature
from workers.engine.opened import Opened
from workers.engine.order import Groups
from workers.engine.vocabulary import Vocabulary
from workers.engine.whole_model import WholeModel

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def sae_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reads so strongly that all its latents fire on the toy model's small activations."""
    sae = random_sae(W_enc=random_sae().W_enc * 40)
    return write(tmp_path_factory.mktemp("features") / "sae", sae)


@pytest.fixture(scope="module")
def spec(sae_folder: Path, model_folder: Path, tokens_folder: Path) -> SaeJobSpec:
    return spec_of(sae_folder, model_folder, tokens_folder, feature_tokens=4000)


@pytest.fixture(scope="module")
def found(spec: SaeJobSpec) -> tuple[dict[str, Any], FeatureTable]:
    result = collect_features(spec, lambda share, note: None)
    return result, FeatureTable(spec.sae_path.with_name("features.sqlite"))


def all_latents(spec: SaeJobSpec) -> tuple[np.ndarray, torch.Tensor]:
    """Context numbers and z [N, T, F] of all that was read, at once."""
    opened = Opened(spec)
    contexts = Groups.of(opened.tokens, 1).contexts[: spec.feature_tokens // 64]
    ids, usable, _ = opened.batch(contexts)
    x = opened.model.activations(ids, opened.sites[:1])[0]
    z = opened.sae.encode(x.flatten(0, 1)).view(*usable.shape, F) * usable[..., None]
    return contexts, z


def test_examples_are_the_strongest_of_all_contexts(
    spec: SaeJobSpec, found: tuple[dict[str, Any], FeatureTable]
) -> None:
    contexts, z_NTF = all_latents(spec)
    ids = Opened(spec).tokens.ids
    peaks_NF = z_NTF.amax(1)
    for latent in range(0, F, 7):
        feature = found[1].feature(latent)
        assert feature is not None
        best = peaks_NF[:, latent].sort(descending=True).values[:20]
        assert len(feature.examples) == int((best > 0).sum())
        assert len({example["context"] for example in feature.examples}) == len(feature.examples)
        for example, value in zip(feature.examples, best, strict=False):
            # Contexts that begin alike may tie, so the context is taken from what was found.
            row = int(np.flatnonzero(contexts == example["context"])[0])
            peak = int(z_NTF[row, :, latent].argmax())
            first = max(0, peak - BEFORE)
            expected = z_NTF[row, first : peak + AFTER + 1, latent]
            assert example["values"] == pytest.approx(expected.tolist(), rel=2e-3)
            assert example["values"][example["peak"]] == pytest.approx(float(value), rel=2e-3)
            there = ids[example["context"], first : peak + AFTER + 1].tolist()
            words = [f"w{i - 3}" if i > 2 else ("<unk>", "<s>", "</s>")[i] for i in there]
            assert [token.strip() for token in example["tokens"]] == words


def test_counts_and_histograms_are_those_of_all_tokens(
    spec: SaeJobSpec, found: tuple[dict[str, Any], FeatureTable]
) -> None:
    result, features = found
    _, z_NTF = all_latents(spec)
    opened = Opened(spec)
    assert result["tokens"] == int(opened.tokens.usable(np.arange(62)).sum())
    for latent in range(0, F, 11):
        feature = features.feature(latent)
        active = z_NTF[..., latent][z_NTF[..., latent] > 0].double()
        assert feature is not None
        assert feature.fired == len(active)
        assert feature.frequency == pytest.approx(len(active) / result["tokens"])
        assert feature.mean == pytest.approx(float(active.mean()), rel=1e-3)
        assert feature.maximum == pytest.approx(float(active.max()), rel=1e-3)
        h = feature.histogram
        assert sum(h["counts"]) == len(active)
        edges = 2.0 ** (h["start"] + np.arange(len(h["counts"]) + 1) / h["per_octave"])
        counted, _ = np.histogram(active.numpy(), edges)
        assert np.abs(counted - h["counts"]).sum() <= 2  # rounding at an edge


def test_blocks_of_any_size_find_the_same() -> None:
    """Ties apart, what is kept does not depend on how the contexts come."""
    g = torch.Generator().manual_seed(0)
    z = torch.rand(23, 17, 12, generator=g).relu() * (torch.rand(23, 17, 12, generator=g) > 0.7)
    numbers = torch.arange(100, 123)
    whole, parts = TopExamples(12, CPU, 5), TopExamples(12, CPU, 5)
    whole.add(numbers, z)
    for size in (slice(0, 1), slice(1, 9), slice(9, 23)):
        parts.add(numbers[size], z[size])
    for name in ("values", "context", "position", "around"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name))
    counted, apart = Activity(12, CPU), Activity(12, CPU)
    counted.add(z.flatten(0, 1))
    for row in z:
        apart.add(row)
    assert torch.equal(counted.histogram_FH, apart.histogram_FH)
    assert counted.tokens == apart.tokens == 23 * 17


@pytest.mark.parametrize("family", FAMILIES)
def test_logit_effects_are_what_the_direction_does(families: dict[str, Path], family: str) -> None:
    """Against the model's own final norm and head, moved a little along the direction.

    Where all rows of the stream have the norm's size, its division is the same for all.
    """
    model = WholeModel.load(families[family], CPU, torch.float32)
    un = model.unembedding()
    g = torch.Generator().manual_seed(0)
    direction = torch.randn(WIDTH, generator=g)
    # A stream so large that a small step along the direction does not change its size.
    stream = torch.randn(1, 1, WIDTH, generator=g) * 1000
    if un.centred:
        stream -= stream.mean(-1, keepdim=True)
    orthogonal = direction - direction.mean() if un.centred else direction
    stream -= (stream @ orthogonal) / orthogonal.square().sum() * orthogonal
    norm, head = model._final_norm(), model._head()
    with torch.no_grad():
        moved = head(norm(stream + direction)) - head(norm(stream))
    size = stream.square().mean().sqrt()
    expected = (moved * size)[0, 0]
    effects = un.effects(direction[None])[0]
    torch.testing.assert_close(effects, expected, rtol=2e-2, atol=2e-2)


def test_most_and_least_promoted_tokens(families: dict[str, Path]) -> None:
    un = WholeModel.load(families["llama"], CPU, torch.float32).unembedding()
    W = torch.randn(7, WIDTH, generator=torch.Generator().manual_seed(1))
    most, most_ids, least, _ = (torch.cat(p) for p in zip(*logit_effects(un, W), strict=True))
    effects = un.effects(W)
    effects -= effects.mean(1, keepdim=True)
    torch.testing.assert_close(most[:, 0], effects.amax(1))
    torch.testing.assert_close(least[:, 0], effects.amin(1))
    assert torch.equal(most_ids[:, 0], effects.argmax(1))


def test_neighbours_are_the_nearest_rows() -> None:
    W = torch.randn(50, WIDTH, generator=torch.Generator().manual_seed(2))
    cosines, latents = neighbours(W)
    unit = torch.nn.functional.normalize(W, dim=1)
    all_of = unit @ unit.T
    all_of.fill_diagonal_(-2)
    torch.testing.assert_close(cosines[:, 0], all_of.amax(1))
    assert torch.equal(latents[:, 0], all_of.argmax(1))


def test_the_table_is_listed_in_orders_and_searched_by_word(
    found: tuple[dict[str, Any], FeatureTable],
) -> None:
    features = found[1]
    for order in ("frequency", "maximum", "mean", "id"):
        rows = features.listed(order, limit=1000)  # type: ignore[arg-type]
        values = [getattr(row, order) for row in rows]
        assert values == sorted(values, reverse=True)
        up = features.listed(order, descending=False, limit=1000)  # type: ignore[arg-type]
        assert [row.id for row in up] == [row.id for row in reversed(rows)]
    assert features.count == len(rows) == found[0]["latents_alive"]
    pages = features.listed("id", limit=10) + features.listed("id", limit=10, offset=10)
    assert [row.id for row in pages] == [row.id for row in features.listed("id", limit=20)]
    first = rows[0]
    hits, count = features.searched(f" {first.peaks[0].upper()}", limit=1000)
    assert first.id in [row.id for row in hits]
    assert count == len(hits)
    hits, _ = features.searched(first.promotes[0], "promotes", limit=1000)
    assert first.id in [row.id for row in hits]
    assert features.searched("no such word", limit=10) == ([], 0)
    assert features.some([first.id, 10**6]) == {first.id: first}
    assert [f.id for f in features.features(5)] == [r.id for r in reversed(rows) if r.id >= 5]
    assert features.feature(2**80) is None


def test_a_latent_that_never_fires_has_no_row(
    model_folder: Path, tokens_folder: Path, tmp_path: Path
) -> None:
    sae = random_sae()
    sae.W_enc[:, 3] = 0
    sae.b_enc[3] = -1
    folder = write(tmp_path / "sae", sae)
    spec = spec_of(folder, model_folder, tokens_folder, feature_tokens=640)
    result = collect_features(spec, lambda share, note: None)
    features = FeatureTable(tmp_path / "features.sqlite")
    assert features.feature(3) is None
    assert 3 not in [row.id for row in features.listed("id", limit=1000)]
    assert result["latents"] == F


def test_a_probe_shows_what_a_text_activates(spec: SaeJobSpec) -> None:
    asked = spec.model_copy(update={"kind": "probe", "text": "w4 w5 w60 w61"})
    result = probe(asked, lambda share, note: None)
    # A word tokenizer has a space before each word, as they stand in the text.
    assert result["tokens"] == [" w4", " w5", " w60", " w61"]
    assert not result["cut"]
    opened = Opened(asked)
    ids = torch.tensor([[1, 7, 8, 63, 64]])
    z = opened.sae.encode(opened.model.activations(ids, opened.sites[:1])[0][0, 1:])
    strongest = result["latents"][0]
    assert strongest["id"] == int(z.amax(0).argmax())
    assert strongest["values"] == pytest.approx(z[:, strongest["id"]].tolist(), rel=1e-3)
    assert [each[0][0] for each in result["strongest"]] == z.argmax(1).tolist()
    long = asked.model_copy(update={"text": "w1 " * 500})
    assert probe(long, lambda share, note: None)["cut"]
    with pytest.raises(TrainingError, match="empty"):
        probe(asked.model_copy(update={"text": "  "}), lambda share, note: None)


def test_the_pass_is_bounded_by_blocks(spec: SaeJobSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """One context at a time gives what many at a time do."""
    opened = Opened(spec)
    whole = read_text(opened, 1280, lambda share, note: None)
    monkeypatch.setattr("workers.engine.features.collect._LATENT_BYTES", 1)
    apart = read_text(opened, 1280, lambda share, note: None)
    torch.testing.assert_close(whole.examples.values, apart.examples.values)
    assert torch.equal(whole.activity.fired_F, apart.activity.fired_F)


def a_feature(number: int) -> Feature:
    example = {"tokens": ["a", f" t{number % 97}"], "values": [0.0, 1.0], "peak": 1, "context": 0}
    return Feature(
        id=number,
        frequency=((number * 7919) % 100_003) / 1e6,
        fired=1,
        maximum=float(number % 13),
        mean=1.0,
        examples=[example],
        histogram={"start": 0.0, "per_octave": 2, "counts": [1]},
        promotes=[("b", 1.0)],
        suppresses=[("c", -1.0)],
        neighbours=[(0, 0.5)],
    )


def test_a_page_of_a_large_table_costs_what_one_of_a_small_table_does(tmp_path: Path) -> None:
    """The work is that of SQLite's own machine, counted in its steps."""

    def steps(count: int) -> int:
        path = tmp_path / f"{count}.sqlite"
        table.write(path, {}, (a_feature(i) for i in range(count)))
        taken = 0
        with sqlite3.connect(path) as file:

            def tick() -> int:
                nonlocal taken
                taken += 1
                return 0

            file.set_progress_handler(tick, 1)
            file.execute(
                "SELECT * FROM latents ORDER BY frequency DESC, id DESC LIMIT 50"
            ).fetchall()
            file.execute(
                "SELECT l.* FROM words w JOIN latents l ON l.id = w.latent WHERE w.word = ? "
                "AND w.kind = ? ORDER BY w.weight DESC, l.id LIMIT ?",
                ("t5", 0, 10),
            ).fetchall()
        return taken

    assert steps(20_000) < 30 * steps(1000)  # the word's own rows are twenty times as many


def test_an_unreadable_table_says_so(tmp_path: Path) -> None:
    with pytest.raises(UnreadableTable, match="not been collected"):
        FeatureTable(tmp_path / "none.sqlite")
    (tmp_path / "bad.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(UnreadableTable, match="cannot be read"):
        FeatureTable(tmp_path / "bad.sqlite")
    old = tmp_path / "old.sqlite"
    table.write(old, {}, [a_feature(0)])
    with sqlite3.connect(old) as file:
        file.execute("UPDATE about SET value = '0' WHERE name = 'version'")
    with pytest.raises(UnreadableTable, match="another version"):
        FeatureTable(old)


def test_writing_that_fails_leaves_the_old_table(tmp_path: Path) -> None:
    path = tmp_path / "features.sqlite"
    table.write(path, {"n": 1}, [a_feature(0)])

    def broken() -> Any:
        yield a_feature(1)
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        table.write(path, {"n": 2}, broken())
    assert FeatureTable(path).about["n"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["features.sqlite"]


def test_tokens_keep_the_space_before_a_word(tmp_path: Path) -> None:
    """Also where the tokenizer's decoder drops it at the beginning, as Llama's first one does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = ["<unk>", "▁the", "▁quick", "fox", "▁", "▁a"]
    tokenizer = Tokenizer(models.WordLevel({p: i for i, p in enumerate(pieces)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(tmp_path)
    words = Vocabulary(tmp_path)
    assert [words[i] for i in range(1, 5)] == [" the", " quick", "fox", " "]
