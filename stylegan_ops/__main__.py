"""`python -m stylegan_ops` is `stylegan-ops`."""

from stylegan_ops.cli import main

main(prog_name="stylegan-ops")
