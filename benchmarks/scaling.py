"""From what this machine measures and others published, to step time, efficiency and hours on 1 to 1,024 GPUs.

    python benchmarks/scaling.py --processes=2 --resnet_size=10 --rounds=1 --result=out/scaling.md     (does it run?)

1. Measures here: time to average a tensor against its size, on 2, 4 and 8 processes; a training step with and without
   sharing gradients, on 1 and 2. Fits latency and bandwidth to the former.
2. Fits the model's two constants, latency and what is lost by waiting for each other, to two of the figures that
   Horovod published, and estimates the others.
3. Estimates ours: ResNet-101 with 11,166 classes on clusters of named hardware, by one ring and hierarchically.

Writes a page and its figure, --result (default docs/scaling.md) and the same with .png. Needs Horovod (`make horovod`).
"""

import json
import os
from pathlib import Path
import subprocess
import sys
import tempfile
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))
from flags import FLAGS, run, script
from absl import flags

flags.DEFINE_list("processes", ["2", "4", "8"], "Numbers of processes that average tensors.")
script(__name__, __doc__, first="result processes rounds resnet_size", defaults={"rounds": 9, "resnet_size": 50})

from matplotlib.figure import Figure
import numpy as np

from distributed import GROUP_BYTES, groups
from models.resnet import build_resnet
from training import plan

WORKER = Path(__file__).with_name("scaling_worker.py")
IMAGES, EPOCHS, CLASSES, BATCH = 17_609_752, 60, 11_166, 32
GPUS = [2**k for k in range(11)]
FUSION = 64 * 2**20  # bytes in a message of Horovod then and, by default, now

# Horovod's own benchmark: 4 Pascal GPUs a server, RoCE-capable network of 25 Gbit/s, batch 64 a GPU, synthetic data.
# Its documentation (docs/benchmarks.rst) has efficiencies on 512 GPUs, and ResNet-101 on 16: 1656.82 images/s; its
# README of early 2018 has efficiencies on 128.
HOROVOD_NETWORK, HOROVOD_BATCH, HOROVOD_SAMPLE = 25e9 / 8, 64, (16, 1656.82)
# Servers have the P100 for PCIe, of 9.3 TFLOP/s, the DGX-1 that for NVLink, of 10.6 (NVIDIA's data sheet).
PCIE = 9.3 / 10.6


class Published(NamedTuple):
    """A network: images a second of one P100 in batches of 64, values, and efficiency by number of GPUs."""

    rate: float
    values: float
    efficiency: dict


# Rates: tensorflow.org/performance/benchmarks, DGX-1 (P100), May 2017. There is none of ResNet-101, which by its
# multiplications lies in the middle between ResNet-50 (219) and ResNet-152 (91.8), in time: 129. Values: the papers'.
PUBLISHED = {
    "VGG-16": Published(154, 138.4e6, {128: 0.79, 512: 0.68}),
    "ResNet-101": Published(2 / (1 / 219 + 1 / 91.8), 44.5e6, {128: 0.90, 512: 0.90}),
    "Inception V3": Published(142, 23.8e6, {128: 0.90, 512: 0.90}),
}


class Cluster(NamedTuple):
    """Hardware: images/s of one GPU with ResNet-50, GPUs a machine, bytes a second inside and between machines."""

    rate: float
    local: int
    inside: float
    network: float


# ResNet-50 v1.5 by NVIDIA (DeepLearningExamples, TensorFlow, 20.06, XLA): V100 412 images/s in float32, A100 2,375 in
# mixed precision; P100 as above. Links, each way, by the data sheets, of which NCCL reaches about 80 %: PCIe 3 x16 16
# GB/s, NVLink of a V100 150 and of an A100 300 GB/s; 25 Gbit/s as Horovod had and as AWS p3.16xlarge has, DGX-1 4 x 100
# Gbit/s, DGX A100 8 x 200 Gbit/s.
CLUSTERS = {
    "P100, 4 a machine, 25 Gbit/s": Cluster(219 * PCIE, 4, 0.8 * 16e9, 25e9 / 8),
    "V100, 8 a machine, 25 Gbit/s": Cluster(412, 8, 0.8 * 150e9, 25e9 / 8),
    "V100, 8 a machine, 400 Gbit/s": Cluster(412, 8, 0.8 * 150e9, 0.8 * 400e9 / 8),
    "A100, 8 a machine, 1,600 Gbit/s, mixed precision": Cluster(2375, 8, 0.8 * 300e9, 0.8 * 1600e9 / 8),
}
# Batches of 32 instead of 64: 195 instead of 219 images a second (P100, ResNet-50, as above).
SMALL_BATCH = 195 / 219
# 8 GPUs of one machine do 7.69 (DGX-1, float32) and 7.70 times (DGX A100) what one does, as above.
INSIDE = 7.7 / 8


def main(argv):
    del argv
    result = Path(FLAGS.result or "docs/scaling.md")
    result.parent.mkdir(parents=True, exist_ok=True)
    numbers = [int(number) for number in FLAGS.processes]
    parts = {n: [*["allreduce"] * (n in numbers), *["step"] * (n < 3)] for n in sorted({1, 2, *numbers})}
    measured = {n: _measure(n, names) for n, names in parts.items()}
    sharing = {n: measured[n]["allreduce"] for n in numbers}
    steps = {n: measured[n]["step"] for n in (1, 2)}
    fits = {n: fit([(size, np.median(seconds)) for size, seconds in times]) for n, times in sharing.items()}
    latency, together = calibrate()
    model = build_resnet(101, CLASSES)
    reference = build_resnet(50, 1000)
    heavier = plan.multiply_adds(model, 224) / plan.multiply_adds(reference, 224)
    sizes = [4 * int(np.prod(v.shape)) for v in model.trainable_variables]
    plans = {name: estimate(cluster, sizes, heavier, latency, together) for name, cluster in CLUSTERS.items()}
    figure = result.with_suffix(".png")
    sections = _measured(sharing, fits, steps), _checked(latency, together), _ours(plans, sizes, heavier, figure.name)
    text = "\n".join(line for section in sections for line in section)
    _draw(figure, sharing, fits, plans)
    result.write_text(text + "\n", encoding="utf-8")
    print(text)
    print(f"written: {result}, {figure}")


def _measure(processes, parts):
    """What benchmarks/scaling_worker.py measures as so many processes, by part."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "result.json")
        mpirun = Path(sys.executable).with_name("mpirun")
        options = "--oversubscribe --bind-to none --mca mpi_yield_when_idle 1 -np".split()
        root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"} if os.geteuid() == 0 else {}
        command = [mpirun, *options, str(processes), sys.executable, WORKER, path, ",".join(parts)]
        command += [str(FLAGS.rounds), str(FLAGS.resnet_size)]
        if not mpirun.exists():
            raise ValueError(f"{mpirun} is not there: run `make horovod`")
        done = subprocess.run(command, env=os.environ | root, capture_output=True, text=True)
        if done.returncode:
            raise ValueError(f"{processes} processes could not measure {', '.join(parts)}:\n{done.stderr[-3000:]}")
        return json.loads(path.read_text())


def fit(measured):
    """Returns seconds a message and seconds a byte, by least squares of relative errors over pairs (bytes, seconds)."""
    sizes, seconds = np.array(measured, float).T
    return np.linalg.lstsq(np.stack([1 / seconds, sizes / seconds], axis=1), np.ones(len(sizes)), rcond=None)[0]


def published_efficiency(network, gpus, latency, together):
    """The efficiency of Horovod's cluster as the model has it: one ring over `gpus`, bound by the network."""
    computing = HOROVOD_BATCH / (network.rate * PCIE)
    return together * computing / plan.step_seconds(computing, _horovod_seconds(network, gpus, latency))


def _horovod_seconds(network, gpus, latency):
    return plan.ring_seconds(4 * network.values, gpus, HOROVOD_NETWORK, latency, -(-4 * network.values // FUSION))


def calibrate():
    """Returns the seconds of a hop and the share, in [0, 1], that is left after waiting for each other.

    ResNet-101 and Inception V3 sent little enough to hide all of it, and had 90 % on 128 and 512 GPUs: the share is
    0.9. With it the latency follows from VGG-16 on 128 GPUs.
    """
    together = PUBLISHED["ResNet-101"].efficiency[128]
    network = PUBLISHED["VGG-16"]
    computing = HOROVOD_BATCH / (network.rate * PCIE)
    seen = computing * (together / network.efficiency[128] - 1)
    hops = _horovod_seconds(network, 128, 1) - _horovod_seconds(network, 128, 0)
    return (seen + plan.BACKWARD * computing - _horovod_seconds(network, 128, 0)) / hops, together


def estimate(cluster, sizes, heavier, latency, together):
    """Returns, for one ring and hierarchically, by number of GPUs: seconds of a step and of adding up, and images/s."""
    computing = BATCH * heavier / (cluster.rate * SMALL_BATCH)
    messages = len(groups(sizes, GROUP_BYTES))
    values = sum(sizes)
    estimates = {"ring": {}, "hierarchical": {}}
    for gpus in GPUS:
        local = min(gpus, cluster.local)
        machines = gpus // local
        share = together if machines > 1 else INSIDE if gpus > 1 else 1
        link = cluster.network if machines > 1 else cluster.inside
        seconds = {
            "ring": plan.ring_seconds(values, gpus, link, latency, messages),
            "hierarchical": plan.hierarchical_seconds(
                values, machines, local, (cluster.network, cluster.inside), latency, messages
            ),
        }
        for name, adding_up in seconds.items():
            step = plan.step_seconds(computing, adding_up) / share
            estimates[name][gpus] = step, adding_up, gpus * BATCH / step
    return estimates


def _measured(sharing, fits, steps):
    yield f"""\
# Planning a run: from 1 to 1,024 GPUs

Written by `benchmarks/scaling.py` on a machine with {os.cpu_count()} cores and no GPU. What is measured here is
Horovod with Open MPI through shared memory; what is said of GPUs is estimated from published figures, which the script
names with their sources.

## Measured here

Median time to average one tensor over N processes, in ms:

| size | {" | ".join(f"N = {n}" for n in sharing)} |
|---|{"---|" * len(sharing)}"""
    for row in zip(*sharing.values(), strict=True):
        cells = (f"{np.median(seconds) * 1e3:.2f}" for _, seconds in row)
        yield f"| {row[0][0] / 1024:,.0f} KB | {' | '.join(cells)} |"
    yield "| fit | " + " | ".join(f"{a * 1e3:.2f} + {b * 2**20 * 1e3:.2f} a MB" for a, b in fits.values()) + " |"
    yield f"""
Where there are more processes than cores they share cores, so the time grows with N more than it would on machines of
their own. The least time is Horovod's own cycle of 1 ms.

A step of ResNet-{FLAGS.resnet_size} (1,000 classes, batch 8 a process, 128 pixels), median of rounds, in s:

| processes | without sharing | sharing alone | step with sharing | more than without | hidden |
|---|---|---|---|---|---|"""
    for n, times in steps.items():
        together, alone, shared = (np.array(times[name]) for name in ("together", "alone", "sharing"))
        more = np.median(together / alone) - 1
        hidden = 1 - np.median(together - alone) / np.median(shared)
        cells = (f"{np.median(values):.3f}" for values in (alone, shared, together))
        yield f"| {n} | {' | '.join(cells)} | {more:+.1%} | {hidden:.0%} |"
    yield """
One process here goes through Horovod on purpose; `train.py` alone does not use it at all.
"""


def _checked(latency, together):
    yield f"""\
## Checked against published measurements

Horovod published the scaling efficiency of three networks on servers with 4 Pascal GPUs and a network of 25 Gbit/s, and
one throughput. Model: a ring of N has 2 (N − 1) hops a message (64 MB, the size of Horovod's buffer) and sends
2 (N − 1) / N of the gradients over its slowest link; that hides behind the backward pass, two thirds of a step, and
what is longer shows. Then a share is lost by waiting for each other. Two constants are fitted:
**{together:.0%} left after waiting** (ResNet-101 on 128 GPUs) and **{latency * 1e6:.0f} µs a hop** (VGG-16 on 128).
The others are estimated:

| network | GPUs | published | model | |
|---|---|---|---|---|"""
    for name, network in PUBLISHED.items():
        for gpus, value in network.efficiency.items():
            estimated = published_efficiency(network, gpus, latency, together)
            fitted = gpus == 128 and name != "Inception V3"
            yield f"| {name} | {gpus} | {value:.0%} | {estimated:.0%} | {'fitted' if fitted else ''} |"
    gpus, rate = HOROVOD_SAMPLE
    network = PUBLISHED["ResNet-101"]
    estimated = gpus * network.rate * PCIE * published_efficiency(network, gpus, latency, together)
    yield f"| ResNet-101 | {gpus} | {rate:,.0f} images/s | {estimated:,.0f} images/s | |\n"


def _ours(plans, sizes, heavier, figure):
    rate = IMAGES * EPOCHS / (90 * 3600)
    yield f"""\
## ResNet-101 on ML-Images

{IMAGES:,} images, {EPOCHS} epochs, batch {BATCH} a GPU, {CLASSES:,} classes:
{sum(sizes) / 1e6:.0f} MB of gradients in {len(groups(sizes))} messages; {heavier:.2f} times the multiplications of
ResNet-50. The paper's 90 hours on 128 GPUs are {rate:,.0f} images a second over all, and {rate / 128:.1f} a GPU.

![Measured time to average, and estimated efficiency]({figure})
"""
    for name, estimates in plans.items():
        yield f"""\
### {name}

| GPUs | step, one ring (ms) | efficiency | hours | step, hierarchical (ms) | efficiency | hours |
|---|---|---|---|---|---|---|"""
        for gpus in GPUS:
            cells = []
            for way in ("ring", "hierarchical"):
                step, _, images = estimates[way][gpus]
                efficiency = images / gpus / estimates[way][1][2]
                cells.append(f"{step * 1e3:.0f} | {efficiency:.0%} | {IMAGES * EPOCHS / images / 3600:,.1f}")
            yield f"| {gpus:,} | {' | '.join(cells)} |"
        yield ""
    yield """\
Not estimated: reading images. 128 GPUs may take more images a second than a file server gives or than their
machines' cores decode; `train.py` prints the data stall, how long processes wait for input."""


def _draw(path, sharing, fits, plans):
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for n, times in sharing.items():
        sizes = np.array([size for size, _ in times])
        points = left.plot(sizes / 2**20, [np.median(s) * 1e3 for _, s in times], "o", label=f"{n} processes")
        left.plot(sizes / 2**20, (fits[n][0] + fits[n][1] * sizes) * 1e3, color=points[0].get_color())
    left.set(xscale="log", yscale="log", xlabel="MB", ylabel="ms to average", title="measured here, and fits")
    for k, (name, estimates) in enumerate(plans.items()):
        for way, style in (("ring", "--"), ("hierarchical", "-")):
            efficiency = [estimates[way][n][2] / n / estimates[way][1][2] for n in GPUS]
            right.plot(GPUS, efficiency, style, color=f"C{k}", label=name if way == "hierarchical" else None)
    right.axvline(128, color="0.7", lw=1)
    right.set(xscale="log", ylim=(0, 1.05), xlabel="GPUs", ylabel="efficiency", title="estimated: ring dashed")
    right.set_xticks(GPUS, GPUS, fontsize=8)
    right.minorticks_off()
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    run(main)
