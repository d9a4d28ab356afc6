"""The trainable models: the pyramid of resolutions, one GAN block, the cascade of blocks."""
