"""The plain, obvious formulation of the network: what the method says, step by step, and as slow as that is.

It shares no code with the package, only the names of the parameters, so that weights can be copied. Tests compare the
package's network with it; ``benchmarks/network.py`` measures both.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PlainAttention(nn.Module):
    def __init__(self, dim: int, heads: int, window: tuple[int, ...], lengths: tuple[int, ...]) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        for name, length in zip("hwd", lengths, strict=True):
            setattr(self, f"rel_pos_{name}", nn.Parameter(torch.zeros(length, dim // heads)))
        self.register_buffer("lr", torch.ones(()))

    def table(self, name: str, axis: int, size: int) -> Tensor:
        full = self.window[axis]
        table = getattr(self, f"rel_pos_{name}")
        table = F.interpolate(table.T[None], size=2 * full - 1, mode="linear")[0].T
        rows = [torch.stack([table[q - k + full - 1] for k in range(size)]) for q in range(size)]
        return torch.stack(rows)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        b, h, w, d, dim = x.shape
        qkv = self.qkv(x).reshape(b, h * w * d, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        scores = q * (dim // self.heads) ** -0.5 @ k.transpose(-2, -1)
        grid = q.reshape(b, self.heads, h, w, d, -1)
        rel_h = torch.einsum("bnhwdc,hkc->bnhwdk", grid, self.table("h", 0, h))
        rel_w = torch.einsum("bnhwdc,wkc->bnhwdk", grid, self.table("w", 1, w))
        rel_d = torch.einsum("bnhwdc,dkc->bnhwdk", grid, self.table("d", 2, d))
        bias = rel_h[..., :, None, None] + rel_w[..., None, :, None] + rel_d[..., None, None, :]
        scores = scores + self.lr * bias.reshape(scores.shape)
        if mask is not None:
            windows = mask.shape[0]
            scores = (scores.unflatten(0, (-1, windows)) + mask[None, :, None].to(scores.dtype)).flatten(0, 1)
        out = scores.softmax(-1) @ v
        return self.proj(out.transpose(1, 2).reshape(b, h, w, d, dim))


class PlainAdapter(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(dim, dim // 2)
        self.conv = nn.Conv3d(dim // 2, dim // 2, 3, padding=1, groups=dim // 2)
        self.linear2 = nn.Linear(dim // 2, dim)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.linear1(x)).permute(0, 4, 1, 2, 3).contiguous()
        out = F.relu(self.conv(out)).permute(0, 2, 3, 4, 1).contiguous()
        return x + F.relu(self.linear2(out))


class PlainMLP(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden)
        self.lin2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(F.gelu(self.lin1(x)))


def to_windows(x: Tensor, window: tuple[int, ...]) -> Tensor:
    cut = [
        x[:, i : i + window[0], j : j + window[1], k : k + window[2]]
        for i in range(0, x.shape[1], window[0])
        for j in range(0, x.shape[2], window[1])
        for k in range(0, x.shape[3], window[2])
    ]
    return torch.stack(cut, dim=1).flatten(0, 1)  # (B * windows, h, w, d, E)


def from_windows(windows: Tensor, padded: tuple[int, ...]) -> Tensor:
    h, w, d = windows.shape[1:4]
    a, b, c = padded[0] // h, padded[1] // w, padded[2] // d
    windows = windows.unflatten(0, (-1, a, b, c))
    rows = [
        torch.cat([torch.cat([windows[:, i, j, k] for k in range(c)], dim=3) for j in range(b)], dim=2)
        for i in range(a)
    ]
    return torch.cat(rows, dim=1)


def seam_mask(padded: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...]) -> Tensor:
    """(windows, N, N): -100 where the roll brought two tokens together that are apart."""
    regions = torch.zeros(1, *padded, 1)
    number = 0
    parts = [
        (slice(0, p - w), slice(p - w, p - s), slice(p - s, p)) if s else (slice(0, p),)
        for p, w, s in zip(padded, window, shift, strict=True)
    ]
    for i in parts[0]:
        for j in parts[1]:
            for k in parts[2]:
                regions[:, i, j, k] = number
                number += 1
    ids = to_windows(regions, window).flatten(1)
    return torch.where(ids[:, :, None] == ids[:, None, :], 0.0, -100.0)


class PlainBlock(nn.Module):
    def __init__(self, dim, heads, mlp_ratio, window, lengths, adapters, shifted) -> None:
        super().__init__()
        self.window, self.shifted = window, shifted
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = PlainAttention(dim, heads, window, lengths)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = PlainMLP(dim, int(dim * mlp_ratio))
        self.adapter = PlainAdapter(dim)
        self.adapter_back = PlainAdapter(dim) if adapters == 2 else None

    def attend(self, x: Tensor) -> Tensor:
        grid = tuple(x.shape[1:4])
        window = tuple(min(w, g) for w, g in zip(self.window, grid, strict=True))
        padded = tuple((g + w - 1) // w * w for g, w in zip(grid, window, strict=True))
        shift = tuple(w // 2 if self.shifted and g > w else 0 for g, w in zip(grid, window, strict=True))
        x = F.pad(x, (0, 0, 0, padded[2] - grid[2], 0, padded[1] - grid[1], 0, padded[0] - grid[0]))
        x = torch.roll(x, tuple(-s for s in shift), (1, 2, 3))
        mask = seam_mask(padded, window, shift).to(x.device) if any(shift) else None
        x = from_windows(self.attn(to_windows(x, window), mask), padded)
        x = torch.roll(x, shift, (1, 2, 3))
        return x[:, : grid[0], : grid[1], : grid[2]]

    def forward(self, x: Tensor) -> Tensor:
        x = self.adapter(x)
        x = x + self.attend(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        if self.adapter_back is not None:
            x = x + self.adapter_back(x)
        return x


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, H, W, D)."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(variance + self.eps)
        return self.weight[:, None, None, None] * x + self.bias[:, None, None, None]


class PlainImageEncoder(nn.Module):
    def __init__(self, *, encoder: dict, grid: tuple[int, ...], adapters: int, neck_channels: int) -> None:
        super().__init__()
        dim, depth, heads = encoder["embed_dim"], encoder["depth"], encoder["num_heads"]
        size = encoder.get("window_size", 8)
        z, y, x = (size,) * 3 if isinstance(size, int) else size
        window = (y, x, z)
        table, small = encoder.get("pos_embed_size"), encoder.get("table_window")
        self.grid = grid
        self.pos_embed = nn.Parameter(torch.zeros(1, table or grid[0], table or grid[1], dim))
        self.depth_embed = nn.Parameter(torch.ones(1, grid[2], dim))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, dim, 16, stride=16)})
        self.slice_embed = nn.Conv3d(dim, dim, (1, 1, 16), stride=(1, 1, 16), groups=dim)
        self.blocks = nn.ModuleList()
        for i in range(depth):
            whole = i in encoder.get("global_attn_indexes", ())
            lengths = tuple(2 * (table if whole else small or w) - 1 for w in window)
            ratio = encoder.get("mlp_ratio", 4.0)
            self.blocks.append(PlainBlock(dim, heads, ratio, window, lengths, adapters, shifted=i % 2 == 0))
        self.neck_3d = nn.ModuleList(
            nn.Sequential(
                nn.Conv3d(dim, neck_channels, 1, bias=False),
                ChannelNorm(neck_channels, eps=1e-6),
                nn.Conv3d(neck_channels, neck_channels, 3, padding=1, bias=False),
                ChannelNorm(neck_channels, eps=1e-6),
            )
            for _ in range(4)
        )

    def embed(self, image: Tensor) -> Tensor:
        """(B, 1, D, H, W), axes as in the array."""
        big = F.interpolate(image, scale_factor=4, mode="trilinear", align_corners=False)
        slices = big.repeat(1, 3, 1, 1, 1).transpose(1, 2).flatten(0, 1)  # (B * 4D, 3, 4H, 4W)
        slices = self.patch_embed["proj"](slices).unflatten(0, (len(image), -1))  # (B, 4D, E, h, w)
        tokens = self.slice_embed(slices.permute(0, 2, 3, 4, 1)).permute(0, 2, 3, 4, 1)
        h, w, _ = self.grid
        place = self.pos_embed.permute(0, 3, 1, 2)
        if place.shape[2] == 2 * h and place.shape[3] == 2 * w:
            place = F.avg_pool2d(place, 2)
        elif place.shape[2] >= h and place.shape[3] >= w:
            place = F.adaptive_avg_pool2d(place, (h, w))
        else:
            place = F.interpolate(place, (h, w), mode="bilinear", align_corners=False)
        return tokens + place.permute(0, 2, 3, 1).unsqueeze(3) + self.depth_embed[:, None, None]

    def forward(self, image: Tensor) -> list[Tensor]:
        tokens = self.embed(image)
        depth, features = len(self.blocks), []
        for number, block in enumerate(self.blocks, start=1):
            tokens = block(tokens)
            if number in [i * depth // 4 for i in (1, 2, 3, 4)]:
                features.append(self.neck_3d[len(features)](tokens.permute(0, 4, 1, 2, 3).contiguous()))
        return features


class PlainCrossAttention(nn.Module):
    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(dim, inner) for _ in range(3))
        self.out_proj = nn.Linear(inner, dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = self.q_proj(q), self.k_proj(k), self.v_proj(v)
        q, k, v = (t.reshape(*t.shape[:2], 8, -1).transpose(1, 2) for t in (q, k, v))
        scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
        out = scores.softmax(-1) @ v
        return self.out_proj(out.transpose(1, 2).flatten(2))


class PlainPromptLayer(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.global_query = nn.Parameter(torch.zeros(1, 10, dim))
        self.self_attn = PlainCrossAttention(dim, dim)
        self.norm1, self.norm2, self.norm3, self.norm4 = (nn.LayerNorm(dim) for _ in range(4))
        self.mlp = nn.ModuleDict({"lin1": nn.Linear(dim, 8 * dim), "lin2": nn.Linear(8 * dim, dim)})
        self.cross_attn_image_to_token = PlainCrossAttention(dim, dim // 2)

    def forward(self, image: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        tokens = torch.cat([self.global_query.repeat(len(image), 1, 1), points], dim=1)
        tokens = self.norm2(tokens + self.norm1(self.self_attn(tokens, tokens, tokens)))
        queries, points = tokens[:, :10], tokens[:, 10:]
        queries = self.norm3(queries + self.mlp["lin2"](F.relu(self.mlp["lin1"](queries))))
        return self.norm4(image + self.cross_attn_image_to_token(image, queries, queries)), points


class PlainPromptEncoder(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.transformer = nn.ModuleDict({"layers": nn.ModuleList(PlainPromptLayer(dim) for _ in range(2))})

    def forward(self, feature: Tensor, points: Tensor, size: tuple[int, ...]) -> Tensor:
        array_order = feature.permute(0, 1, 4, 2, 3)
        scaled = [(points[..., i] + 0.5) * 2 / size[i] - 1 for i in range(3)]
        grid = torch.stack([scaled[2], scaled[1], scaled[0]], -1)[:, :, None, None]
        points = F.grid_sample(array_order, grid, align_corners=False)[..., 0, 0].transpose(1, 2)
        image = feature.flatten(2).transpose(1, 2)
        for layer in self.transformer["layers"]:
            image, points = layer(image, points)
        return image.transpose(1, 2).reshape(feature.shape)


def plain_double_conv(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers += [nn.Conv3d(channels, after, 3, padding=1, bias=False), nn.InstanceNorm3d(after), nn.ReLU()]
    return nn.Sequential(*layers)


class PlainProMISe(nn.Module):
    """Takes the same options and state dict as the package's network."""

    def __init__(
        self, *, encoder, patch_size, in_channels=1, adapters=2, upsampling="transposed", cnn_encoder="concatenate",
        decoder_channels=128, neck_channels=256,
    ) -> None:  # fmt: skip
        super().__init__()
        self.patch_size = tuple(patch_size)
        self.padded = tuple((size + 3) // 4 * 4 for size in patch_size)
        self.cnn_option = cnn_encoder
        d, h, w = (size // 4 for size in self.padded)
        self.channel_mixer = nn.Conv3d(in_channels, 1, 1, bias=False) if in_channels > 1 else None
        self.image_encoder = PlainImageEncoder(
            encoder=encoder, grid=(h, w, d), adapters=adapters, neck_channels=neck_channels
        )
        self.prompt_encoder = PlainPromptEncoder(neck_channels)
        width = decoder_channels
        self.cnn_encoder = plain_double_conv(in_channels, width) if cnn_encoder else None
        self.mask_decoder = nn.ModuleDict({"mlahead": nn.ModuleDict()})
        for i in (2, 3, 4, 5):
            up = nn.ConvTranspose3d(width, width, 2, stride=2) if upsampling == "transposed" else None
            up = up or nn.Upsample(scale_factor=2, mode="trilinear", align_corners=True)
            self.mask_decoder["mlahead"][f"head{i}"] = plain_double_conv(neck_channels, width)
            self.mask_decoder["mlahead"][f"up{i}"] = up
        fused = 4 * width + in_channels + (width if cnn_encoder == "concatenate" else 0)
        self.mask_decoder["head"] = nn.Sequential(
            nn.Conv3d(fused, width, 3, padding=1, bias=False),
            nn.InstanceNorm3d(width),
            nn.ReLU(),
            nn.Conv3d(width, 2, 3, padding=1, bias=False),
        )

    def forward(self, image: Tensor, points: Tensor) -> Tensor:
        ends = [p - s for p, s in zip(self.padded, self.patch_size, strict=True)]
        image = F.pad(image, (0, ends[2], 0, ends[1], 0, ends[0]), mode="replicate")
        features = self.image_encoder(self.channel_mixer(image) if self.channel_mixer else image)
        features[3] = self.prompt_encoder(features[3], points, self.padded)
        small = F.interpolate(image, scale_factor=0.5, mode="trilinear", align_corners=False).permute(0, 1, 3, 4, 2)
        heads = self.mask_decoder["mlahead"]
        parts = [heads[f"up{i}"](heads[f"head{i}"](f)) for i, f in zip((2, 3, 4, 5), features, strict=True)]
        details = self.cnn_encoder(small) if self.cnn_option else None
        if self.cnn_option == "concatenate":
            parts.append(details)
        conv, norm, relu, to_logits = self.mask_decoder["head"]
        fused = relu(norm(conv(torch.cat([*parts, small], dim=1))))
        if self.cnn_option == "residual":
            fused = fused + details
        logits = F.interpolate(to_logits(fused), scale_factor=2, mode="trilinear", align_corners=True)
        d, h, w = self.patch_size
        return logits.permute(0, 1, 4, 2, 3)[:, :, :d, :h, :w]
