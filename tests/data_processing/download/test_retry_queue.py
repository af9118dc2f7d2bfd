"""Which URL is tried next, on a clock of the test's own."""

import itertools
import random

import pytest

from data_processing.download.retry_queue import HOST_DOWN, RetryQueue


def simulate(urls, answer, *, connections, seconds=1.0, **limits):
    """Plays a downloader whose every try takes `seconds`.

    Args:
      urls: pairs of a URL and its host.
      answer: function of a URL, its host and the time that returns (temporary, asked).

    Returns {URL: [times of its tries]}, {URL: (time of its end, how)} and the most tries at a time by host.
    """
    queue = RetryQueue(**{"per_host": 8, "attempts": 4, "wait": 1.0, "max_wait": 120.0} | limits)
    for url, host in urls:
        queue.add(url, host)
    tried, ended, most, running, now = {}, {}, {}, [], 0.0
    for _ in range(1_000_000):
        while len(running) < connections and (job := queue.take(now)):
            if job.host_is_down:
                queue.end(job, now)
                ended[job.url] = now, "down"
                continue
            tried.setdefault(job.url, []).append(now)
            running.append((now + seconds, job))
            active = sum(one.name == job.name for _, one in running)
            most[job.name] = max(active, most.get(job.name, 0))
        pause = queue.sleep(now) if len(running) < connections else None
        times = [end for end, _ in running[:1]] + ([] if pause is None else [now + pause])
        if not times:
            assert not len(queue) and len(ended) == len(urls)
            return tried, ended, most
        now = min(times)
        while running and running[0][0] <= now:
            _, job = running.pop(0)
            temporary, asked = answer(job.url, job.name, now)
            if not queue.tried(job, now, temporary, asked):
                ended[job.url] = now, "failed" if temporary else "came"
    raise AssertionError("no end")


def many(host, count):
    return [(f"{host}/{k}", host) for k in range(count)]


def test_a_host_that_says_later_takes_nobodys_place():
    urls = many("busy", 80) + many("good", 4)
    tried, ended, _ = simulate(urls, lambda url, host, now: (host == "busy", 2.0 * (host == "busy")), connections=4)
    assert [tried[url][0] for url, host in urls if host == "good"] == [1.0] * 4
    # Nothing begins in the two seconds after a try has ended, that is from one to three seconds after it began.
    begun = sorted({time for url, times in tried.items() if url.startswith("busy") for time in times})
    assert not any(before + 1 <= after < before + 3 for before, after in itertools.combinations(begun, 2))


@pytest.mark.parametrize("asked", [0.0, 2.0])
def test_the_urls_of_a_dead_host_end_soon(asked):
    urls = many("dead", 100_000)
    tried, ended, most = simulate(urls, lambda *_: (True, asked), connections=100, seconds=60.0)
    assert most == {"dead": 8}
    failed = [url for url, (_, how) in ended.items() if how == "failed"]
    # Those that were under way when it became clear end as they do.
    assert HOST_DOWN <= len(failed) < HOST_DOWN + 8
    assert max(time for time, _ in ended.values()) < 30 * 60
    assert all(len(tried[url]) == 4 for url in failed)


def test_a_success_between_keeps_a_host():
    urls = many("flaky", 1000)
    _, ended, _ = simulate(urls, lambda url, *_: (int(url.split("/")[1]) % 10 == 0, 0.0), connections=100)
    assert {how for _, how in ended.values()} == {"failed", "came"}


def test_every_url_ends_once_and_no_host_has_more_than_its_share():
    draw = random.Random(1)
    urls = [(f"{k}", f"host {draw.randrange(9)}") for k in range(3000)]
    chances = {f"host {k}": k / 10 for k in range(9)}

    def answer(url, host, now):
        return draw.random() < chances[host], draw.choice([0.0, 0.0, 5.0, 500.0])

    tried, ended, most = simulate(urls, answer, connections=20, per_host=3, max_wait=60.0)
    assert max(most.values()) == 3 and max(len(times) for times in tried.values()) <= 4
    assert all(url in tried or how == "down" for url, (_, how) in ended.items())
