"""segmentation-models-pytorch: PyTorch's usual training step, channels last where asked."""

import torch

try:
    import torchvision  # noqa: F401
except RuntimeError:
    # It was made for a PyTorch with CUDA, and this one has none. None of its operators is needed,
    # but its import wants to find these two.
    for operator in ("nms", "qnms"):
        schema = "(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor"
        torch.library.define(f"torchvision::{operator}", schema)

import segmentation_models_pytorch as smp
from protocol import random_data, serve, versions

MODELS = {
    "unet": lambda **options: smp.Unet("mobilenet_v2", **options),
    "deeplab": lambda **options: smp.DeepLabV3Plus("resnet50", encoder_output_stride=16, **options),
}
THREADS = 2


def build(model, *, batch, size, classes, frozen=False, channels_last=True, bfloat16=False):
    torch.set_num_threads(THREADS)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    net = MODELS[model](encoder_weights=None, classes=classes).to(memory_format=layout)
    net.train()
    if frozen:
        net.freeze_encoder()
    images, masks = random_data(batch, size, classes)
    images = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    images = images.contiguous(memory_format=layout)
    masks = torch.from_numpy(masks).long()
    trained = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained)

    def half():
        return torch.autocast("cpu", torch.bfloat16, enabled=bfloat16)

    def step():
        net.train()
        optimizer.zero_grad()
        with half():
            loss = torch.nn.functional.cross_entropy(net(images).float(), masks)
        loss.backward()
        optimizer.step()
        return loss.item()

    def predict():
        net.eval()
        with torch.inference_mode(), half():
            return net(images).float().numpy()

    return {
        "step": step,
        "predict": predict,
        "parameters": sum(p.numel() for p in net.parameters()),
        "trainable": sum(p.numel() for p in trained),
        "versions": versions("torch", "segmentation-models-pytorch"),
    }


if __name__ == "__main__":
    serve(build)
