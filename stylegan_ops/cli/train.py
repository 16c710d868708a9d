"""`stylegan-ops train`: train a ProGAN, StyleGAN or StyleGAN2."""

from __future__ import annotations

import shlex
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from stylegan_ops import explain, keep_freed_memory

if TYPE_CHECKING:
    from stylegan_ops.training import Processes, Trainer, TrainingConfig

MODELS = click.Choice(["progan", "stylegan", "stylegan2"])
ARCHITECTURES = click.Choice(["orig", "skip", "resnet", "msg"])
LOSSES = click.Choice(["logistic", "minimax", "lsgan", "wasserstein", "hinge", "rahinge"])
LARGE_GPU = 30e9  # bytes of memory, of a GPU that takes the batches of `large_gpu_batch_sizes`
PRECISIONS = click.Choice(["auto", "float32", "bfloat16", "float16"])


@click.command(name="train", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("data", type=click.Path(exists=True))
@click.option("--outdir", required=True, type=click.Path(), help="Folder for checkpoints, grids and logs; must not hold another run.")
@click.option("--resume", metavar="PATH|latest", help="Go on from this checkpoint, or from the newest one in --outdir.")
@click.option("--model", type=MODELS, help="The networks: progan and stylegan grow while they train. [default: stylegan2]")
@click.option("--preset", type=click.Choice(["demo"]), help="Settings to start from: demo is for small faces on two CPU cores.")
@click.option("--kimg", type=float, metavar="K", help="End after K thousand real images in all. [default: 25000]")
@click.option("--minutes", type=float, metavar="M", help="End after M minutes in all, those of a resumed run counted.")
@click.option("--grow/--no-grow", default=None, help="Grow from 4 px on, if the model does; DATA needs a --pyramid. [default: --grow]")
@click.option("--stabilize-kimg", type=float, metavar="K", help="Growing: thousand images at each resolution. [default: 800]")
@click.option("--fade-kimg", type=float, metavar="K", help="Growing: thousand images to fade in a resolution. [default: 800]")
@click.option("--batch", "batch_size", type=int, metavar="IMAGES", help="Images in a step, over all processes. [default: 8 to 32]")
@click.option(
    "--batch-per-resolution",
    metavar="PX:IMAGES,...",
    help="Growing: images in a step. [default: --batch at the last resolution, twice as many at each half, 256 at most; on a GPU with "
    "30 GB 4:256,8:256,16:128,32:128,64:48,128:22,256:10,512:4]",
)
@click.option("--lr-per-resolution", metavar="PX:RATE,...", help="Growing: learning rate for G, D's in proportion. [default: --glr]")
@click.option("--reset-optimizer/--keep-optimizer", default=None, help="Growing: forget averages at a new resolution. [default: keep]")
@click.option("--optimizer", type=click.Choice(["adam", "rmsprop"]), help="Of both networks. [default: adam]")
@click.option("--glr", "g_lr", type=float, metavar="RATE", help="Learning rate for G. [default: 0.0025; 0.002 from 512 px; progan 0.001]")
@click.option("--dlr", "d_lr", type=float, metavar="RATE", help="Learning rate for D. [default: as for G]")
@click.option("--loss", type=LOSSES, help="Adversarial loss. [default: logistic (non-saturating); progan wasserstein]")
@click.option("--critic-steps", type=int, metavar="N", help="Steps of D for each one of G, each on new images. [default: 1]")
@click.option(
    "--weight-clip", type=float, metavar="C", help="Keep D's weights, as they act, within +-C (WGAN: 0.01); 0 for none. [default: 0]"
)
@click.option("--drift", type=float, metavar="W", help="Weight of D's squared logits of real images. [default: 0; progan 0.001]")
@click.option("--r1-gamma", type=float, metavar="GAMMA", help="Weight of R1; 0 for none. [default: 0.0002 * pixels / batch; progan 0]")
@click.option("--r2-gamma", type=float, metavar="GAMMA", help="Weight of R2, R1 on generated images; 0 for none. [default: 0]")
@click.option("--gp-weight", type=float, metavar="W", help="Weight of WGAN-GP's gradient penalty; 0 for none. [default: 0; progan 10]")
@click.option("--r1-interval", type=int, metavar="STEPS", help="Steps between those of D's penalties. [default: 16; progan 1]")
@click.option("--path-weight", type=float, metavar="W", help="Of the path length; 0 for none. [default: ln 2 / (ln px - ln 2); others 0]")
@click.option("--style-mixing", type=float, metavar="P", help="Share of generated images with two styles. [default: 0.9; progan 0]")
@click.option("--ema-kimg", type=float, metavar="K", help="Half-life of G's average, thousand images. [default: batch * 10 / 32]")
@click.option(
    "--channel-base",
    type=int,
    metavar="N",
    help="Channels times resolution of a layer; config E of StyleGAN2 has 16384, F 32768. [default: 8192 to 32768]",
)
@click.option("--channel-max", type=int, metavar="N", help="Most channels of a layer. [default: 256 up to 64 px, else 512]")
@click.option("--mapping-layers", type=int, metavar="N", help="Layers of the mapping network. [default: 8]")
@click.option("--z-dim", type=int, metavar="N", help="Size of the input latent z. [default: 512]")
@click.option("--w-dim", type=int, metavar="N", help="Size of the intermediate latent w. [default: 512]")
@click.option("--g-arch", "g_architecture", type=ARCHITECTURES, help="Architecture of G. [default: skip]")
@click.option("--d-arch", "d_architecture", type=ARCHITECTURES, help="Architecture of D. [default: resnet]")
@click.option("--cond/--no-cond", "conditional", default=None, help="Train on the data set's labels. [default: --no-cond]")
@click.option("--xflip/--no-xflip", default=None, help="Show each image mirrored too. [default: --no-xflip]")
@click.option("--precision", type=PRECISIONS, help="Of the layers; auto is bfloat16 where that is fast, else float32. [default: auto]")
@click.option("--compile/--no-compile", default=None, help="Compile the plain steps with torch.compile. [default: --no-compile]")
@click.option("--seed", type=int, metavar="N", help="Of weights, latents, noise and data order. [default: 0]")
@click.option("--workers", type=int, metavar="N", help="Processes that read images; 0 for none of their own. [default: 1]")
@click.option("--threads", type=int, metavar="N", help="CPU threads of a training process. [default: torch's choice]")
@click.option("--snapshot-kimg", type=float, metavar="K", help="Thousand images between snapshots (grid and checkpoint).")
@click.option("--snapshot-minutes", type=float, metavar="M", help="Minutes between snapshots. [default: 10]")
@click.option("--keep", "keep_checkpoints", type=int, metavar="N", help="Newest checkpoints that stay. [default: 2]")
def command(data: str, outdir: str, resume: str | None, preset: str | None, **given: Any) -> None:
    """Train a ProGAN, StyleGAN or StyleGAN2 on DATA, a zip or folder written by `stylegan-ops dataset`.

    Writes config.json, log.jsonl, tb/ (TensorBoard), reals.png, grids/kimgNNNNNN.png and checkpoint-IMAGES.pt to the folder. Ctrl-C
    finishes the step, writes a checkpoint and says how to go on. A resumed run keeps the settings of its checkpoint; only lengths,
    intervals, workers and threads may change.

    \b
    Examples:
      stylegan-ops train faces32.zip --outdir runs/faces --preset demo
      stylegan-ops train faces32.zip --outdir runs/faces --resume latest --minutes 60
      stylegan-ops train faces32.zip --outdir runs/msg --g-arch msg --d-arch msg
      stylegan-ops train pyramid32.zip --outdir runs/progan --model progan --preset demo
      torchrun --nproc_per_node 2 -m stylegan_ops train faces256.zip --outdir runs/big
    """
    keep_freed_memory()
    try:
        import PIL  # noqa: F401
        import tensorboard  # noqa: F401
        import tqdm  # noqa: F401
    except ModuleNotFoundError as error:
        raise click.ClickException(f'{error.name} is not installed; run: pip install "stylegan_ops[train]"') from None
    from stylegan_ops.training import CheckpointError, Processes, TrainingDiverged

    try:
        with closing(Processes.from_environment()) as processes:
            _train(processes, data, outdir, resume, preset, given)
    except (ValueError, OSError, CheckpointError, TrainingDiverged) as error:
        raise click.ClickException(str(error)) from None


def _train(processes: Processes, data: str, outdir: str, resume: str | None, preset: str | None, given: dict[str, Any]) -> None:
    from stylegan_ops.data import ImageDataset
    from stylegan_ops.training import Trainer, TrainingConfig, latest_checkpoint, load_checkpoint
    from stylegan_ops.training.config import GROWING

    dataset = ImageDataset(data)
    state = None
    if resume is None:
        if given["model"] in GROWING and given["batch_size"] is None and given["batch_per_resolution"] is None:
            given |= _batches_of_a_large_gpu(processes, dataset.resolution)
        config = TrainingConfig.for_resolution(dataset.resolution, preset=preset, **given)
    else:
        state = load_checkpoint(latest_checkpoint(outdir) if resume == "latest" else resume, processes.device)
        config = TrainingConfig.from_json(state["config"]).resumed_with({"preset": preset, **given})
    dataset.xflip = config.xflip
    trainer = Trainer(config, dataset, outdir, processes, resume=state)
    if processes.rank == 0:
        click.echo(_summary(trainer, data), err=True)
    result = trainer.run()
    if processes.rank == 0:
        click.echo(f"Generated images: {result.grid}\nCheckpoint: {result.checkpoint}")
        if result.signal:
            click.echo(f"Stopped by {result.signal.name}. To go on:\n  {_resume_command(processes, data, outdir)}", err=True)
    raise SystemExit(result.exit_code)


def _batches_of_a_large_gpu(processes: Processes, resolution: int) -> dict[str, Any]:
    """The settings of `large_gpu_batch_sizes`, where there is such a GPU."""
    import torch

    from stylegan_ops.training.growing import large_gpu_batch_sizes

    if processes.device.type != "cuda" or torch.cuda.get_device_properties(processes.device).total_memory < LARGE_GPU:
        return {}
    sizes = large_gpu_batch_sizes(resolution, processes.world_size)
    return {"batch_size": sizes[resolution], "batch_per_resolution": ",".join(f"{r}:{size}" for r, size in sizes.items())}


def _summary(trainer: Trainer, data: str) -> str:
    state, config, device = trainer.state, trainer.config, trainer.processes.device
    import torch

    sample = torch.empty(0, device=device, dtype=getattr(torch, config.precision))
    sizes = {name: sum(p.numel() for p in network.parameters()) / 1e6 for name, network in (("G", state.G), ("D", state.D))}
    side, kind = state.data["resolution"], {1: "grey", 3: "RGB"}[state.data["channels"]]
    classes = f", {state.data['c_dim']} classes" if state.data["c_dim"] else ""
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    processes = f", {trainer.processes.world_size} processes" if trainer.processes.world_size > 1 else ""
    architectures = f" ({config.g_architecture}, {config.d_architecture})" if config.model == "stylegan2" else ""
    weights = {"R1": config.r1_gamma, "R2": config.r2_gamma, "gradient penalty": config.gp_weight, "path length": config.path_weight}
    weights |= {"drift": config.drift, "weights clipped to": config.weight_clip}
    weights |= {"critic steps": config.critic_steps} if config.critic_steps > 1 else {}
    penalties = ", ".join(f"{name} {weight:.4g}" for name, weight in weights.items() if weight > 0)
    lines = {
        "data": f"{data}: {state.data['num_images']:,} images, {side}x{side} {kind}{classes}",
        "networks": f"{config.model}{architectures}: G {sizes['G']:.2f} M, D {sizes['D']:.2f} M parameters",
        "runs on": f"{device}{threads}{processes}, {config.precision}{', compiled' if config.compile else ''}",
        "operators": explain("modulated_conv2d", sample),
        "growth": ""
        if state.growth is None
        else f"4 to {side} px, {config.stabilize_kimg:g} kimg at each, {config.fade_kimg:g} kimg to "
        f"fade in, batches {', '.join(map(str, state.growth.batch_sizes.values()))}",
        "steps": f"batch {config.batch_size}, {config.loss} loss, {penalties or 'no penalties'}, learning rates {config.g_lr:g} and "
        f"{config.d_lr:g} ({config.optimizer}), average {config.ema_kimg:g} kimg, seed {config.seed}",
        "ends": f"after {_limits(config)}" + (f"; goes on from {state.images / 1000:.1f} kimg" if state.step else ""),
        "writes to": str(trainer.outdir),
    }
    return "\n".join(f"{name:>10}  {text}" for name, text in lines.items() if text)


def _limits(config: TrainingConfig) -> str:
    limits = ((config.kimg, "kimg"), (config.minutes, "minutes"))
    return " or ".join(f"{limit:g} {unit}" for limit, unit in limits if limit is not None)


def _resume_command(processes: Processes, data: str, outdir: str) -> str:
    alone = ["stylegan-ops"]
    together = ["torchrun", "--nproc_per_node", str(processes.world_size), "-m", "stylegan_ops"]
    program = alone if processes.world_size == 1 else together
    return shlex.join([*program, "train", data, "--outdir", outdir, "--resume", "latest"])
