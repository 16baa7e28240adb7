"""The method as a reader of the paper would write it: same weights and same numbers as the fast
models, no thought of speed.

Read it from top to bottom beside the paper (EEGDM, arXiv 2508.14086 v3; S4D: arXiv 2206.11893):

1. diffusion: noise is added to a single EEG channel in steps, and a network learns the velocity;
2. SSMDP, that network: an embedding of step and channel, and residual blocks of state-space models
   (S4D) with gates;
3. latents: the spread of every block's gate over each second of every channel is a token;
4. LFT: learned fusion tokens collect from the tokens of all channels, block by block, and a small
   transformer decides.

:class:`eegdm.SSMDP` and :class:`eegdm.LatentFusionTransformer` compute the same 5 to 15 times as
fast (``docs/performance.md``), at any sampling rate and length, with masks and variants. The
modules here have the names of theirs, so that a state dict of the one loads into the other; tests
compare outputs and gradients. Benchmarks measure against this file: it does not change for speed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

# --------------------------------------------------------------------- 1. diffusion of one channel


def cosine_signal_levels(n_steps: int = 50) -> Tensor:
    """abar_t, t = 0 .. n_steps-1: what is left of the signal's power after t + 1 steps of noise.

    The cosine schedule of Nichol & Dhariwal 2021: beta_t = 1 - f(t + 1)/f(t), at most 0.999, with
    f(t) = cos^2((t/T + 0.008)/1.008 pi/2).
    """
    time = torch.arange(n_steps + 1, dtype=torch.float64) / n_steps
    f = torch.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2
    return torch.cumprod(1 - (1 - f[1:] / f[:-1]).clamp(max=0.999), dim=0)


def noised(x0: Tensor, noise: Tensor, abar: Tensor) -> Tensor:
    """The forward process: x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps."""
    return abar.sqrt() * x0 + (1 - abar).sqrt() * noise


def velocity(x0: Tensor, noise: Tensor, abar: Tensor) -> Tensor:
    """What the network is to predict: v = sqrt(abar_t) eps - sqrt(1 - abar_t) x_0."""
    return abar.sqrt() * noise - (1 - abar).sqrt() * x0


def step_embedding(step: Tensor, width: int) -> Tensor:
    """Return [sin(t f), cos(t f)] with f_i = 10000^(-i/(width/2 - 1)), (batch, width)."""
    n_frequencies = width // 2
    frequency = torch.exp(
        -torch.arange(n_frequencies, device=step.device) * math.log(10_000) / (n_frequencies - 1)
    )
    phase = step[:, None] * frequency
    return torch.cat([phase.sin(), phase.cos()], dim=-1)


# ------------------------------------------------------------------------ 2. SSMDP, the backbone


class S4D(nn.Module):
    """Bidirectional diagonal state-space models, (batch, feature, time) to the same shape.

    x'(t) = A x(t) + B u(t), y(t) = C x(t) + D u(t), discretised with step dt by zero-order hold,
    is a convolution of u with the kernel K. One kernel looks back in time, a second one forward;
    they share A, B and dt. A_m = -1/2 - i pi m at first ("S4D-Lin"); each feature has its own dt.
    """

    def __init__(self, n_features: int, d_state: int) -> None:
        super().__init__()
        n_modes = d_state // 2
        self.log_decay = nn.Parameter(torch.full((n_features, n_modes), math.log(0.5)))
        self.frequency = nn.Parameter(
            (math.pi * torch.arange(n_modes)).clamp(min=1e-4).repeat(n_features, 1)
        )
        self.log_dt = nn.Parameter(
            torch.empty(n_features, 1).uniform_(math.log(0.001), math.log(0.1))
        )
        self.B = nn.Parameter(torch.tensor([1.0, 0.0]).repeat(1, n_features, n_modes, 1))
        self.C = nn.Parameter(
            torch.view_as_real(torch.randn(2, n_features, n_modes, dtype=torch.cfloat))
        )
        self.D = nn.Parameter(torch.randn(1, n_features))

    def kernel(self, length: int) -> Tensor:
        """K[l] = 2 Re sum_m B_m C_m (exp(dt A_m) - 1)/A_m exp(l dt A_m), (direction, feature, lag):
        a product with the Vandermonde matrix of exp(dt A). 2 Re: modes come in conjugate pairs.
        """
        A = -torch.exp(self.log_decay) - 1j * self.frequency
        exponent = torch.exp(self.log_dt) * A
        weight = (
            torch.view_as_complex(self.B)
            * torch.view_as_complex(self.C)
            * (torch.exp(exponent) - 1)
            / A
        )
        powers = torch.exp(exponent[..., None] * torch.arange(length, device=A.device))
        return 2 * torch.einsum("dfm,fml->dfl", weight, powers).real

    def forward(self, x: Tensor) -> Tensor:
        """Convolve by FFTs of twice the length, so that the ends do not meet."""
        length = x.shape[-1]
        forward, backward = self.kernel(length)
        # Negative lags lie at the end, where the circle of the FFT continues before lag 0
        kernel = nn.functional.pad(forward, (0, length)) + nn.functional.pad(
            backward.flip(-1), (length, 0)
        )
        spectrum = torch.fft.rfft(kernel, n=2 * length) * torch.fft.rfft(x, n=2 * length)
        return torch.fft.irfft(spectrum, n=2 * length)[..., :length] + self.D.mT * x


class Block(nn.Module):
    """A residual block: norm, condition, widen to twice the features, SSMs, and a gate on a filter.

    inter = sigmoid(first half) * tanh(second half) leads to the next block and to the output.
    """

    def __init__(self, d_model: int, d_state: int, d_cond: int, last: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.condition = nn.Linear(d_cond, d_model)
        self.widen = nn.Linear(d_model, 2 * d_model)
        self.ssm = S4D(2 * d_model, d_state)
        self.next = None if last else nn.Linear(d_model, d_model)
        self.skip = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        """Return the next block's input, the skip, and the gate."""
        h = self.widen(self.norm(x) + self.condition(condition)[:, None])
        gate, filtered = self.ssm(h.transpose(1, 2)).transpose(1, 2).chunk(2, dim=-1)
        gate, filtered = torch.sigmoid(gate), torch.tanh(filtered)
        inter = gate * filtered
        return None if self.next is None else self.next(inter) + x, self.skip(inter), gate


class Backbone(nn.Module):
    """SSMDP: predicts the velocity of one channel; without arguments the published size."""

    def __init__(
        self,
        d_model: int = 128,
        n_blocks: int = 20,
        d_state: int = 128,
        d_cond: int = 512,
        d_embed: int = 128,
        n_channel_ids: int = 22,
    ) -> None:
        super().__init__()
        self.lift = nn.Linear(1, d_model)
        self.blocks = nn.ModuleList(
            Block(d_model, d_state, d_cond, i == n_blocks - 1) for i in range(n_blocks)
        )
        self.head = nn.Sequential(nn.Linear(d_model, d_model), nn.ReLU(), nn.Linear(d_model, 1))
        self.step_mlp = nn.Sequential(
            nn.Linear(d_embed, d_cond), nn.SiLU(), nn.Linear(d_cond, d_cond), nn.SiLU()
        )
        self.channel_embed = nn.Embedding(n_channel_ids, d_embed)
        self.channel_mlp = nn.Sequential(
            nn.Linear(d_embed, d_cond), nn.SiLU(), nn.Linear(d_cond, d_cond), nn.SiLU()
        )

    def forward(self, x: Tensor, step: Tensor, channel: Tensor) -> Tensor:
        """Return the velocity (batch, 1, time) of ``x`` (batch, 1, time)."""
        # Each block adds to the output directly; the stream itself only leads to the next block
        return self.head(sum(self._run(x, step, channel)[0])).transpose(1, 2)

    def tokens(self, x: Tensor, window: int = 200) -> Tensor:
        """3. Latents: the standard deviation of each gate over each ``window`` samples (1 s).

        The signal is given as it is, without noise, at step 1 (counted from 0). ``x`` is (batch,
        channel, time) with channel ids 0, 1, ...; tokens are (batch, block, pool, 1, channel,
        feature).
        """
        batch, n_channels, length = x.shape
        channel = torch.arange(n_channels, device=x.device).repeat(batch)
        _, gates = self._run(x.reshape(-1, 1, length), torch.ones_like(channel), channel)
        pooled = torch.stack([gate.unflatten(1, (-1, window)).std(dim=2) for gate in gates])
        return pooled.unflatten(1, (batch, n_channels)).permute(1, 0, 3, 2, 4)[:, :, :, None]

    def _run(self, x: Tensor, step: Tensor, channel: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the skips and gates of all blocks."""
        embedding = step_embedding(step, self.channel_embed.embedding_dim).to(x.dtype)
        condition = self.step_mlp(embedding) + self.channel_mlp(self.channel_embed(channel))
        stream = torch.relu(self.lift(x.transpose(1, 2)))
        skips, gates = [], []
        for block in self.blocks:
            stream, skip, gate = block(stream, condition)
            skips.append(skip)
            gates.append(gate)
        return skips, gates


# --------------------------------------------------- 4. LFT, the latent fusion transformer


class FusionBlock(nn.Module):
    """Fusion tokens of one pool attend to one another, then to that pool's tokens of all channels
    from one block of the backbone (not normalised); a feed-forward layer follows.
    """

    def __init__(self, d_model: int, n_heads: int, ff: int) -> None:
        super().__init__()
        self.self_norm = nn.LayerNorm(d_model)
        self.self_attn = nn.MultiheadAttention(d_model, n_heads, batch_first=True)
        self.cross_norm = nn.LayerNorm(d_model)
        self.cross_attn = nn.MultiheadAttention(d_model, n_heads, batch_first=True)
        self.ff_norm = nn.LayerNorm(d_model)
        self.ff = nn.Sequential(
            nn.Linear(d_model, ff * d_model), nn.GELU(), nn.Linear(ff * d_model, d_model)
        )

    def forward(self, z: Tensor, tokens: Tensor) -> Tensor:
        h = self.self_norm(z)
        z = z + self.self_attn(h, h, h)[0]
        z = z + self.cross_attn(self.cross_norm(z), tokens, tokens)[0]
        return z + self.ff(self.ff_norm(z))


class StackLayer(nn.Module):
    """A layer of the classification stack: a pre-norm transformer layer."""

    def __init__(self, d_model: int, n_heads: int, ff: int) -> None:
        super().__init__()
        self.attn_norm = nn.LayerNorm(d_model)
        self.attn = nn.MultiheadAttention(d_model, n_heads, batch_first=True)
        self.ff_norm = nn.LayerNorm(d_model)
        self.ff = nn.Sequential(
            nn.Linear(d_model, ff * d_model), nn.GELU(), nn.Linear(ff * d_model, d_model)
        )

    def forward(self, x: Tensor) -> Tensor:
        h = self.attn_norm(x)
        x = x + self.attn(h, h, h)[0]
        return x + self.ff(self.ff_norm(x))


class FusionTransformer(nn.Module):
    """LFT: fuses each pool (second) on its own, block by block, then classifies all together.

    Without arguments the published size. The blocks' weights are shared by all pools; positions are
    learned.
    """

    def __init__(
        self,
        n_blocks: int = 20,
        n_pools: int = 5,
        n_classes: int = 6,
        d_model: int = 128,
        n_tokens: int = 16,
        n_heads: int = 8,
        ff: int = 4,
        depth: int = 8,
    ) -> None:
        super().__init__()
        self.fusion_tokens = nn.Parameter(torch.rand(n_pools, n_tokens, d_model))
        self.fusion_blocks = nn.ModuleList(
            FusionBlock(d_model, n_heads, ff) for _ in range(n_blocks)
        )
        self.position = nn.Parameter(torch.rand(n_pools, n_tokens, d_model))
        self.stack = nn.ModuleList(StackLayer(d_model, n_heads, ff) for _ in range(depth))
        self.out = nn.Linear(d_model, n_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits (batch, class) of ``tokens`` (batch, block, pool, 1, channel, feature)."""
        fused = []
        # Seconds do not meet before the stack: each has fusion tokens of its own
        for pool, start in enumerate(self.fusion_tokens):
            z = start.expand(len(tokens), -1, -1)
            for index, block in enumerate(self.fusion_blocks):
                z = block(z, tokens[:, index, pool, 0])
            fused.append(z + self.position[pool])
        sequence = torch.cat(fused, dim=1)
        for layer in self.stack:
            sequence = layer(sequence)
        return self.out(sequence.mean(dim=1))
