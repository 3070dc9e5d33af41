"""`python -m workers.engine.sae.cpu` compiles the loops, so that no training has to wait for them.

Compiling takes ten seconds and 200 MB, once on a machine.
"""

import torch

from . import above, gradients, normalize, reconstruct, remove_parallel, sums, top

x_BD = torch.ones(8, 4)
W_FO = torch.ones(16, 4)
for dtype in (torch.float32, torch.bfloat16):
    pre_BF = torch.ones(8, 16, dtype=dtype)
    top(pre_BF, 2)
    above(pre_BF, 0.0, most=1.0)
starts = torch.arange(9) * 16
latents_N, z_N = torch.arange(16, dtype=torch.int32).repeat(8), torch.ones(128)
residual_BO, dpre_N = reconstruct(starts, latents_N, z_N, W_FO, x_BD[0], x_BD)
gradients(starts, latents_N, len(W_FO), z_N, dpre_N, x_BD, residual_BO)
remove_parallel(W_FO, W_FO.clone())
normalize(W_FO)
sums(x_BD)
