"""The architectures of segmentation-models, and what sets them apart: sizes of photos, decoder options."""

import math

BACKBONES = (
    "vgg16 vgg19 resnet18 resnet34 resnet50 resnet101 resnet152 resnext50 resnext101 seresnet18 seresnet34 "
    "seresnet50 seresnet101 seresnet152 seresnext50 seresnext101 senet154 inceptionv3 inceptionresnetv2 "
    "densenet121 densenet169 densenet201 mobilenet mobilenetv2 efficientnetb0 efficientnetb1 efficientnetb2 "
    "efficientnetb3 efficientnetb4 efficientnetb5 efficientnetb6 efficientnetb7"
).split()
ARCHITECTURES = {"unet": "U-Net", "fpn": "FPN", "linknet": "LinkNet", "pspnet": "PSPNet"}
# The encoders halve a photo five times. PSPNet takes it halved three times, and divides that into 6 x 6.
SIZE_STEPS = {"unet": 32, "fpn": 32, "linknet": 32, "pspnet": 48}
LEAST_STEP, COMMON_STEP = min(SIZE_STEPS.values()), math.gcd(*SIZE_STEPS.values())
LEAST_SIZES = {"inceptionv3": 75}  # of encoders that refuse smaller photos
# LinkNet's stages have the channels of the encoder's; FPN and PSPNet have no such stages.
WITH_DECODER_FILTERS = ("unet",)
DECODER_FILTERS = (256, 128, 64, 32, 16)


def largest_size(architecture: str, backbone: str, limit: int) -> int:
    """The largest side of a photo, up to `limit` pixels, that the network takes, or 0."""
    step = SIZE_STEPS[architecture]
    size = limit // step * step
    return size if size >= LEAST_SIZES.get(backbone, step) else 0


def size_problem(architecture: str, backbone: str, size: int) -> str | None:
    """Why the network does not take photos of `size` pixels a side, with the nearest it takes, or None."""
    below, step = largest_size(architecture, backbone, size), SIZE_STEPS[architecture]
    if size <= 0 or below == size:
        return None
    rule = f"a multiple of {step}" + (f" for architecture {architecture}" if step != LEAST_STEP else "")
    least = -(-LEAST_SIZES.get(backbone, step) // step) * step
    if least > step:
        rule += f", at least {least} for backbone {backbone}"
    tries = f"{below} or {below + step}" if below else least
    return f"image_size must be {rule}, got {size}; try {tries}"
