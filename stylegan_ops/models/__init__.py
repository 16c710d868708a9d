"""The networks of the StyleGAN papers, one module per paper."""
