"""Images a second of download_images.py against a plain threaded loop over urllib, as the release downloads.

    python benchmarks/download_images.py --num_images=1500 --latency=0.4

Both fetch the same images from a server on this machine that answers each request after a latency, from eight
loopback addresses that stand for eight hosts. The loop has twenty threads (the release's default) and writes what it
gets; ours checks that every image decodes, too. Both start as processes of their own, in rounds, and write to the
same disk; their start counts.
"""

import asyncio
import multiprocessing
from pathlib import Path
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(Path(__file__).parents[1]))

from flags import FLAGS, run, script
from absl import flags

flags.DEFINE_float("latency", 0.4, "Seconds until the server answers.", lower_bound=0.0)
script(__name__, __doc__, first="num_images rounds latency", defaults={"rounds": 3, "num_images": 1500})

import numpy as np
from PIL import Image

from benchmarks.rounds import in_rounds
from data_processing.lists import image_list

HOSTS = [f"127.0.0.{k}" for k in range(1, 9)]
THREADS = 20
LOOP = """
import os, sys, queue, threading, urllib.request
urls = queue.Queue()
for line in open(sys.argv[1]):
    urls.put(line.split("\\t")[0])
def work():
    while True:
        try:
            url = urls.get_nowait()
        except queue.Empty:
            return
        try:
            data = urllib.request.urlopen(url, timeout=60).read()
            open(os.path.join(sys.argv[2], "_".join(url.split("/")[-2:])), "wb").write(data)
        except Exception as error:
            print(url, error)
threads = [threading.Thread(target=work) for _ in range(int(sys.argv[3]))]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


def main(argv):
    del argv
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        image = make_image(folder / "image.jpg")
        ports = multiprocessing.Queue()
        server = multiprocessing.Process(target=serve, args=(image, FLAGS.latency, ports), daemon=True)
        server.start()
        port = ports.get()
        urls = [f"http://{HOSTS[k % len(HOSTS)]}:{port}/{k}/{k}.jpg" for k in range(FLAGS.num_images)]
        image_list.write(folder / "urls.txt", [image_list.Row(url, (1,), (1.0,)) for url in urls])
        ways = {
            "threaded loop": lambda: images_a_second(loop, folder, image),
            "ours": lambda: images_a_second(ours, folder, image),
        }
        rates = in_rounds(ways, FLAGS.rounds, warm_up=0)
        size = len(image) / 1000
        print(f"{FLAGS.num_images} images of {size:.0f} kB from {len(HOSTS)} hosts, latency {FLAGS.latency} s")
        for name, rate in rates.items():
            ratio = np.median(np.array(rate) / rates["threaded loop"])
            spread = f"({min(rate):.0f} to {max(rate):.0f})"
            print(f"  {name:<14}{np.median(rate):7.0f} images/s {spread}  {ratio:.1f} x the loop")


def make_image(path):
    """Writes a JPEG with about as many bytes as a photograph of its size has; returns the bytes."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize((500, 375))
    noisy = np.clip(np.asarray(coarse) + rng.normal(size=(375, 500, 1)) * 4, 0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(path, quality=90)
    return path.read_bytes()


def images_a_second(way, folder, image):
    """Downloads all images of urls.txt once, as the command that `way` returns does it, and checks that they came."""
    with tempfile.TemporaryDirectory(dir=folder) as output:
        begin = time.perf_counter()
        subprocess.run(way(folder, output), check=True, capture_output=True)
        rate = FLAGS.num_images / (time.perf_counter() - begin)
        came = sum(1 for path in Path(output).rglob("*.jpg") if path.read_bytes() == image)
        if came != FLAGS.num_images:
            raise RuntimeError(f"{way.__name__}: {came} of {FLAGS.num_images} images came")
    return rate


def loop(folder, output):
    return [sys.executable, "-c", LOOP, folder / "urls.txt", output, str(THREADS)]


def ours(folder, output):
    script = Path(__file__).parents[1] / "data_processing" / "download_images.py"
    options = [f"--image_list={folder}/urls.txt", f"--output_dir={output}", "--allow_private_hosts"]
    return [sys.executable, script, *options]


def serve(image, latency, ports):
    """A server of HTTP/1.1 that answers every request with `image`, after `latency` seconds."""

    async def answer(reader, writer):
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await asyncio.sleep(latency)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(image))
                writer.write(image)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def answer_all():
        server = await asyncio.start_server(answer, "0.0.0.0", 0, backlog=1024)
        ports.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(answer_all())


if __name__ == "__main__":
    run(main)
