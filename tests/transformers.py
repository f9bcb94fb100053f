"""Small transformers as timm and torchvision write them, with random weights."""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention


class Attention(nn.Module):
    """timm: one projection for query, key and value; fused attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width), Attention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width), Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, width, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class TimmViT(nn.Module):
    """timm's VisionTransformer: `registers` more prefix tokens; `pool` is "token", or "avg" over the patches."""

    def __init__(self, grid: tuple[int, int], *, registers: int = 0, pool: str = "token", depth: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        width = 16
        self.pool, self.patch_embed = pool, PatchEmbed(width, 8)
        self.cls_token, self.reg_token = nn.Parameter(torch.randn(1, 1, width)), None
        if registers:
            self.reg_token = nn.Parameter(torch.randn(1, registers, width))
        self.pos_embed = nn.Parameter(torch.randn(1, grid[0] * grid[1], width))
        self.blocks = nn.Sequential(*(Block(width, 2) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x) + self.pos_embed
        prefix = [self.cls_token] if self.reg_token is None else [self.cls_token, self.reg_token]
        x = torch.cat([*(token.expand(len(x), -1, -1) for token in prefix), x], 1)
        x = self.norm(self.blocks(x))
        count = sum(token.shape[1] for token in prefix)
        return self.head(x[:, 0] if self.pool == "token" else x[:, count:].mean(1))


class EncoderBlock(nn.Module):
    """torchvision's: nn.MultiheadAttention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.self_attention = nn.LayerNorm(width), nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2, self.mlp = nn.LayerNorm(width), Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln_1(x)
        y, _ = self.self_attention(y, y, y, need_weights=False)
        x = x + y
        return x + self.mlp(self.ln_2(x))


class Encoder(nn.Module):
    def __init__(self, tokens: int, width: int, depth: int) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.randn(1, tokens, width))
        self.dropout, self.ln = nn.Dropout(0.1), nn.LayerNorm(width)
        self.layers = nn.Sequential(*(EncoderBlock(width, 2) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        return self.ln(self.layers(self.dropout(x + self.pos_embedding)))


class TorchvisionViT(nn.Module):
    """torchvision's VisionTransformer: reshaped and permuted patches, positions added after the class token."""

    def __init__(self, grid: tuple[int, int], depth: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        width = 16
        self.conv_proj, self.class_token = nn.Conv2d(1, width, 8, 8), nn.Parameter(torch.randn(1, 1, width))
        self.encoder, self.heads = Encoder(1 + grid[0] * grid[1], width, depth), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        x = self.conv_proj(x).reshape(n, -1, (h // 8) * (w // 8)).permute(0, 2, 1)
        x = torch.cat([self.class_token.expand(n, -1, -1), x], dim=1)
        return self.heads(self.encoder(x)[:, 0])


class SwinBlock(nn.Module):
    """(b, h, w, c); attention in windows of 4 by 4, of the image rolled by 2 in every second block."""

    def __init__(self, width: int, shift: int) -> None:
        super().__init__()
        self.shift, self.norm1, self.attn = shift, nn.LayerNorm(width), Attention(width, 2)
        self.norm2, self.mlp = nn.LayerNorm(width), Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.windows(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def windows(self, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        x = pad(x, (0, 0, 0, -w % 4, 0, -h % 4))
        _, high, wide, _ = x.shape
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        x = x.view(b, high // 4, 4, wide // 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
        x = self.attn(x)
        x = x.view(b, high // 4, wide // 4, 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(b, high, wide, c)
        if self.shift:
            x = torch.roll(x, (self.shift, self.shift), (1, 2))
        return x[:, :h, :w].contiguous()


class PatchMerging(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        parts = [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
        return self.reduction(self.norm(torch.cat(parts, -1)))


class TimmMerging(PatchMerging):
    """The same as timm writes it: axes cut in two and moved to the channels."""

    def forward(self, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        x = x.reshape(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 4, 2, 5).flatten(3)
        return self.reduction(self.norm(x))


class Swin(nn.Module):
    """Two stages of two blocks, channels last throughout, mean over the cells."""

    def __init__(self, merging: type[PatchMerging] = PatchMerging) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Conv2d(1, 8, 4, 4)
        self.layers = nn.Sequential(
            nn.Sequential(SwinBlock(8, 0), SwinBlock(8, 2)),
            merging(8),
            nn.Sequential(SwinBlock(16, 0), SwinBlock(16, 2)),
        )
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.layers(self.embed(x).permute(0, 2, 3, 1)))
        return self.head(x.mean((1, 2)))
