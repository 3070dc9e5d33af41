"""What Neuronpedia takes: the bodies of its requests, with their names, types and limits.

From the checks of its server (github.com/hijohnnylin/neuronpedia, apps/webapp/app/api: `model/new`,
`source-set/new` and `feature/upload-batch`, as of commit 00aa0a19 of the fork mitre/neuronpedia)
and from its Python client (`neuronpedia` 1.2.1). `docs/neuronpedia.schema.json` is made of this.

A source set is a family of sources, one for each layer of a model; an SAE is a source.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, model_validator

MOST_FEATURES, MOST_TOKENS, MOST_LOGITS = 128, 1024, 20
# Letters and digits with single hyphens between them; a model's id may have periods, too.
_SOURCE_SET = r"[a-z][a-z0-9]*(-[a-z0-9]+)*"
_MODEL = r"[a-z][a-z0-9]*((-|\.|-\.|\.-)[a-z0-9]+)*"


def _not_neurons(name: str) -> str:
    """What Neuronpedia calls the model's own neurons."""
    if name == "neurons":
        raise ValueError("a source set cannot be called neurons")
    return name


# The server takes an empty string for one that is missing.
Word = Annotated[str, Field(min_length=1)]
ModelId = Annotated[str, Field(pattern=f"^{_MODEL}$", min_length=2, max_length=32)]
SourceSetName = Annotated[str, Field(pattern=f"^{_SOURCE_SET}$"), AfterValidator(_not_neurons)]
SourceId = Annotated[str, Field(pattern=rf"^\d+-{_SOURCE_SET}$")]
Address = Annotated[str, Field(pattern=r"^https?://\S+$")]


class _Body(BaseModel):
    """Part of a request; what it has no name for is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Logit(_Body):
    """What one unit of the latent adds to a token's logit."""

    token: Word
    value: float


class Activation(_Body):
    """A piece of text, and how strongly the latent fires on each of its tokens.

    Activations of the same quantile are shown together; without one, they stand by themselves.
    """

    tokens: list[Word] = Field(min_length=1, max_length=MOST_TOKENS)
    values: list[float] = Field(min_length=1, max_length=MOST_TOKENS)
    quantileMin: float | None = Field(default=None, le=99_999_999)
    quantileMax: float | None = Field(default=None, le=99_999_999)
    quantileFraction: float | None = Field(default=None, ge=0, le=1)

    @model_validator(mode="after")
    def _as_many_values_as_tokens(self) -> Self:
        if len(self.tokens) != len(self.values):
            raise ValueError(f"{len(self.tokens)} tokens have {len(self.values)} values")
        return self


class Explanation(_Body):
    """What a latent means, in words; the two names are of Neuronpedia's own lists."""

    text: Word = Field(max_length=512)
    methodName: str | None = None
    modelName: str | None = None


class Feature(_Body):
    """A latent with at least one text on which it fires; `density` is the share of tokens."""

    index: int = Field(ge=0, le=10_000_000)
    density: float = Field(ge=0, le=1)
    topLogits: list[Logit] | None = Field(default=None, max_length=MOST_LOGITS)
    bottomLogits: list[Logit] | None = Field(default=None, max_length=MOST_LOGITS)
    explanations: list[Explanation] = Field(default_factory=list)
    activations: list[Activation] = Field(min_length=1)


class FeatureBatch(_Body):
    """The body of `POST /api/feature/upload-batch`, as `batch-<n>.json` holds it."""

    modelId: ModelId
    source: SourceId
    features: list[Feature] = Field(min_length=1, max_length=MOST_FEATURES)

    @model_validator(mode="after")
    def _each_latent_once(self) -> Self:
        if len({feature.index for feature in self.features}) < len(self.features):
            raise ValueError("an index comes twice")
        return self


class NewModel(_Body):
    """The body of `POST /api/model/new`, for a model that Neuronpedia does not have yet."""

    id: ModelId
    layers: int = Field(ge=1, le=127)
    displayName: str = Field(min_length=1, max_length=64)
    url: Address | None = None


class NewSourceSet(_Body):
    """The body of `POST /api/source-set/new`, which makes a source for each layer."""

    name: SourceSetName
    modelId: ModelId
    description: str = Field(max_length=128)
    url: Address | None = None


class BatchFile(_Body):
    """A file beside the upload file."""

    file: str
    features: int = Field(ge=1, le=MOST_FEATURES)
    bytes: int
    sha256: str


class Upload(_Body):
    """`upload.json`: what is sent before the batches, and which these are, in their order."""

    model: NewModel
    sourceSet: NewSourceSet
    source: SourceId
    features: int = Field(ge=1, description="In all batches: latents that fired.")
    latents: int = Field(description="Of the SAE.")
    tokens: int = Field(description="On how many it was looked where they fire.")
    batches: list[BatchFile] = Field(min_length=1)


def json_schema() -> dict[str, Any]:
    """Of both kinds of file, as one JSON Schema."""
    found: dict[str, Any] = TypeAdapter[FeatureBatch | Upload](FeatureBatch | Upload).json_schema()
    return found
