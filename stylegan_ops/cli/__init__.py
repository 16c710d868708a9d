"""The command line: a group whose commands are imported when they are called, so that each needs only its own extras."""

import importlib

import click

from stylegan_ops import __version__

COMMANDS = {
    "dataset": "Prepare a data set: square images of one size in a zip or a folder.",
    "train": "Train a ProGAN, StyleGAN or StyleGAN2 on a prepared data set.",
    "generate": "Draw images from a trained generator.",
    "mix": "Mix the styles of two sets of images.",
    "truncation": "Draw images at several strengths of the truncation.",
    "convert": "Write a checkpoint in another layout.",
    "inspect": "Say what a checkpoint of any layout holds.",
    "contributions": "Measure what each resolution adds to the picture over a run.",
    "droplets": "Show what a spike does to AdaIN and not to demodulation.",
    "kid": "Measure how far generated images are from a data set (KID over VGG16).",
    "ppl": "Measure how smooth the latent space is (perceptual path length over LPIPS).",
    "benchmark": "Measure ops, networks and training, with tables and plots.",
    "doctor": "Say what this installation can do, and how to mend what it cannot.",
}


class LazyGroup(click.Group):
    """Imports `stylegan_ops.cli.NAME` only for the command that runs; the list of commands imports nothing."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return importlib.import_module(f"stylegan_ops.cli.{name}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="stylegan-ops")
def main() -> None:
    """Operators of the StyleGAN family, and the models, data sets and training built on them."""
