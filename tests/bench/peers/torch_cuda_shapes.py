"""What the device benchmark and its peer both measure: they run in different interpreters."""

PRODUCTS = (256, 512, 1024, 2048, 4096)
#: Channels in and out, extent of the image, extent of the filter.
CONVOLUTIONS = ((64, 56, 3), (128, 28, 3), (256, 14, 3), (512, 7, 3), (256, 56, 1), (1024, 14, 1))
