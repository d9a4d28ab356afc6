"""The paper's model: the cascade of GAN blocks, and its progressively growing version."""
