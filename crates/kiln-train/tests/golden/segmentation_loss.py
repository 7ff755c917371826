"""Prints the expected losses of src/segment.rs: PyTorch's cross-entropies, and the Dice loss by the formula of
segmentation_models.pytorch's DiceLoss (smooth 0, eps 1e-7, over all pixels of the batch)."""
import torch
import torch.nn.functional as F

logits = torch.tensor([((i * 7 % 11) - 5.0) / 2.0 for i in range(24)]).reshape(2, 3, 2, 2)
masks = torch.tensor([0, 1, 1, 0, 1, 1, 0, 0]).reshape(2, 2, 2)


def dice(p, t):
    p, t = p.transpose(0, 1).flatten(1), t.transpose(0, 1).flatten(1)
    score = 2 * (p * t).sum(1) / (p.sum(1) + t.sum(1)).clamp_min(1e-7)
    return ((1 - score) * (t.sum(1) > 0)).mean()


print("CROSS_ENTROPY", F.cross_entropy(logits, masks).item())
print("DICE", dice(logits.softmax(1), F.one_hot(masks, 3).permute(0, 3, 1, 2).float()).item())
one, t = logits[:, 1:2], masks[:, None].float()
print("BINARY", F.binary_cross_entropy_with_logits(one, t).item())
print("BINARY_DICE", dice(one.sigmoid(), t).item())
