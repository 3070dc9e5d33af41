"""Public libraries, each through its own training class, normalization, start and schedule.

What a library counts in steps or tokens of a long run (warm-ups, the window after which a latent is
dead) is scaled to the length of this one, as it is for ours. `pip install -e '.[peers]'`.

Shapes: B tokens in a batch, D width, F latents.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

# sparsify takes its GPU kernel wherever Triton is installed, also without a GPU.
os.environ["SPARSIFY_DISABLE_TRITON"] = "1"

import torch
from measure import Contender, Data
from torch import Tensor

_ESTIMATED_ON = 65_536
_SEED = 0


class SaeLens:
    """SAELens: `SAETrainer.step`. Schedules as its documentation on training recommends.

    E‖x‖ = √D, no learning-rate warm-up, decay over the last 20 %, penalty warm-up as given.
    """

    def __init__(self, data: Data, config: Any, lr: float, coefficient: float | None) -> None:
        from sae_lens.config import LoggingConfig, SAETrainerConfig
        from sae_lens.registry import get_sae_training_class
        from sae_lens.training.sae_trainer import SAETrainer

        torch.manual_seed(_SEED)
        self._sae = get_sae_training_class(config.architecture())[0](config)
        trainer_config = SAETrainerConfig(
            total_training_samples=data.steps * data.batch,
            train_batch_size_samples=data.batch,
            lr=lr,
            lr_end=lr / 10,
            lr_decay_steps=data.steps // 5,
            dead_feature_window=data.steps // 10,
            logger=LoggingConfig(log_to_wandb=False),
        )
        self._trainer: Any = SAETrainer(trainer_config, self._sae, iter(()))
        norm = float(data.training[:_ESTIMATED_ON].norm(dim=1).mean())
        self._scale = data.width**0.5 / norm
        self._trainer.activation_scaler.scaling_factor = self._scale

    @property
    def coefficient(self) -> float | None:
        found = list(self._trainer.coefficient_schedulers.values())
        return found[0].final_value if found else None

    @coefficient.setter
    def coefficient(self, value: float) -> None:
        (found,) = self._trainer.coefficient_schedulers.values()
        found.final_value = value

    def step(self, x_BD: Tensor) -> None:
        self._trainer.step(x_BD)
        self._trainer.n_training_steps += 1

    def reconstruct(self, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        z_BF = self._sae.encode(x_BD * self._scale)
        return self._sae.decode(z_BF) / self._scale, z_BF > 0


class Sparsify:
    """sparsify: `SparseCoder` in the loop of its `SaeTrainer`, on raw activations.

    `optimizer` is `signum` (its default, schedule-free) or `adam` (linear warm-up and decay).
    """

    coefficient = None

    def __init__(
        self, data: Data, latents: int, k: int, lr: float, optimizer: str, auxk_alpha: float
    ) -> None:
        from schedulefree import ScheduleFreeWrapper
        from sparsify import SparseCoder, SparseCoderConfig
        from sparsify.sign_sgd import SignSGD
        from transformers import get_linear_schedule_with_warmup

        torch.manual_seed(_SEED)
        coder = SparseCoder(data.width, SparseCoderConfig(num_latents=latents, k=k), device="cpu")
        self._coder, self._auxk_alpha = coder, auxk_alpha
        self._optimizer: Any
        self._schedule: Any = None
        if optimizer == "signum":
            self._optimizer = ScheduleFreeWrapper(SignSGD(coder.parameters(), lr), momentum=0.95)
            self._optimizer.train()
        else:
            self._optimizer = torch.optim.Adam(coder.parameters(), lr)
            self._schedule = get_linear_schedule_with_warmup(
                self._optimizer, data.steps // 50, data.steps
            )
        self._silent_F = torch.zeros(latents, dtype=torch.int64)
        self._dead_after = data.steps * data.batch // 10
        self._begun = False

    def step(self, x_BD: Tensor) -> None:
        coder = self._coder
        if not self._begun:
            coder.b_dec.data = x_BD.mean(0)
            self._begun = True
        coder.set_decoder_norm_to_unit_norm()
        dead_F = self._silent_F > self._dead_after if self._auxk_alpha > 0 else None
        found = coder(x_BD, dead_mask=dead_F)
        (found.fvu + self._auxk_alpha * found.auxk_loss).backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        self._optimizer.step()
        self._optimizer.zero_grad()
        if self._schedule:
            self._schedule.step()
        self._silent_F += len(x_BD)
        self._silent_F[found.latent_indices.flatten()] = 0

    def reconstruct(self, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        if not self._schedule:
            self._optimizer.eval()
        found = self._coder(x_BD)
        if not self._schedule:
            self._optimizer.train()
        active_BF = torch.zeros(len(x_BD), len(self._silent_F), dtype=torch.bool)
        active_BF.scatter_(1, found.latent_indices, found.latent_acts > 0)
        return found.sae_out, active_BF


class Dictionary:
    """dictionary_learning: `trainer.update`, normalized to a mean square norm of one.

    Learning-rate warm-up 2 %, penalty warm-up 5 %, decay over the last 20 %, as in its demo.
    """

    def __init__(
        self, data: Data, latents: int, trainer: str, weight: str | None, **own: Any
    ) -> None:
        from dictionary_learning import trainers
        from dictionary_learning.trainers.standard import StandardTrainerAprilUpdate

        torch.manual_seed(_SEED)
        common: dict[str, Any] = {
            "steps": data.steps,
            "activation_dim": data.width,
            "dict_size": latents,
            "layer": 0,
            "lm_name": "none",
            "device": "cpu",
            "seed": _SEED,
            "warmup_steps": data.steps // 50,
            "decay_start": data.steps * 4 // 5,
        }
        if trainer != "TopKTrainer":
            common["sparsity_warmup_steps"] = data.steps // 20
        classes = vars(trainers) | {"StandardTrainerAprilUpdate": StandardTrainerAprilUpdate}
        self._trainer = classes[trainer](**common, **own)
        if trainer == "TopKTrainer":
            self._trainer.dead_feature_threshold = data.steps * data.batch // 10
        self._weight, self._count = weight, 0
        self._norm = float(data.training[:_ESTIMATED_ON].square().sum(1).mean().sqrt())

    @property
    def coefficient(self) -> float | None:
        return float(getattr(self._trainer, self._weight)) if self._weight else None

    @coefficient.setter
    def coefficient(self, value: float) -> None:
        setattr(self._trainer, str(self._weight), value)

    def step(self, x_BD: Tensor) -> None:
        self._trainer.update(self._count, x_BD / self._norm)
        self._count += 1

    def reconstruct(self, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        x_hat_BD, z_BF = self._trainer.ae(x_BD / self._norm, output_features=True)
        return x_hat_BD * self._norm, z_BF > 0


Make = Callable[[Data, float, float], Contender]
"""A contender for data, a learning rate, and a first coefficient or, for TopK, K."""


def standard(latents: int) -> dict[str, Make]:
    """ReLU with an L1 penalty, by library and variant."""

    def saelens(data: Data, lr: float, weight: float) -> Contender:
        import sae_lens

        config = sae_lens.StandardTrainingSAEConfig(
            **_saelens_shape(data, latents),
            l1_coefficient=weight,
            l1_warm_up_steps=data.steps // 20,
        )
        return SaeLens(data, config, lr, weight)

    def dictionary(trainer: str) -> Make:
        return lambda data, lr, weight: Dictionary(
            data, latents, trainer, "l1_penalty", lr=lr, l1_penalty=weight
        )

    return {
        "SAELens": saelens,
        "dictionary_learning": dictionary("StandardTrainer"),
        "dictionary_learning, April update": dictionary("StandardTrainerAprilUpdate"),
    }


def jumprelu(latents: int) -> dict[str, Make]:
    """JumpReLU. SAELens with Anthropic's recipe as it documents it; "to all" with its option that
    gives the encoder the straight-through gradient. dictionary_learning's number is the L0 wanted.
    """

    def saelens(to_input: bool) -> Make:
        def make(data: Data, lr: float, weight: float) -> Contender:
            import sae_lens

            config = sae_lens.JumpReLUTrainingSAEConfig(
                **_saelens_shape(data, latents),
                l0_coefficient=weight,
                l0_warm_up_steps=data.steps,
                jumprelu_sparsity_loss_mode="tanh",
                jumprelu_bandwidth=2.0,
                jumprelu_init_threshold=0.1,
                pre_act_loss_coefficient=3e-6,
                jumprelu_ste_to_input=to_input,
            )
            return SaeLens(data, config, lr, weight)

        return make

    def dictionary(data: Data, lr: float, weight: float) -> Contender:
        return Dictionary(data, latents, "JumpReluTrainer", None, lr=lr, target_l0=weight)

    return {
        "SAELens, tanh": saelens(False),
        "SAELens, tanh, to all": saelens(True),
        "dictionary_learning": dictionary,
    }


def topk(latents: int) -> dict[str, Make]:
    """TopK; the coefficient is K."""

    def saelens(data: Data, lr: float, k: float) -> Contender:
        import sae_lens

        config = sae_lens.TopKTrainingSAEConfig(**_saelens_shape(data, latents), k=round(k))
        return SaeLens(data, config, lr, None)

    def sparsify(optimizer: str, auxk_alpha: float) -> Make:
        return lambda data, lr, k: Sparsify(data, latents, round(k), lr, optimizer, auxk_alpha)

    def dictionary(data: Data, lr: float, k: float) -> Contender:
        return Dictionary(data, latents, "TopKTrainer", None, lr=lr, k=round(k))

    return {
        "SAELens": saelens,
        "sparsify, signum": sparsify("signum", 0.0),
        "sparsify, adam": sparsify("adam", 0.0),
        "sparsify, adam, AuxK": sparsify("adam", 1 / 32),
        "dictionary_learning": dictionary,
    }


def _saelens_shape(data: Data, latents: int) -> dict[str, Any]:
    return {
        "d_in": data.width,
        "d_sae": latents,
        "device": "cpu",
        "normalize_activations": "expected_average_only_in",
    }
