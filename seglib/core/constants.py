"""Numbers that several parts of seglib must agree on."""

IGNORE_LABEL = 255  # the label that counts nowhere
GRAY = 127  # of the pixels around a picture that is padded
MOMENTUM = 0.9  # of BatchNorm: a short training has too few steps for Keras's default of 0.99
