"""Which URL is tried next: of many hosts, each as often and as soon as its host allows. Neither network nor clock.

A URL that must wait takes nobody's place: it lies in a queue until its time has come. A host that is down is given up.
"""

from collections import deque
import heapq
import random
from typing import NamedTuple

# A host is down when so many of its URLs in a row have failed for now, each in all its tries.
HOST_DOWN = 20


class _Host:
    """What this process does with a host.

    Attributes:
      active: tries that are under way.
      not_before: seconds on the caller's clock; until then the host is left alone.
      failed: URLs in a row that failed for now.
      waiting: heap of jobs that wait for a try to end.
      jobs: number of jobs that have not ended.
    """

    def __init__(self):
        self.active, self.not_before, self.failed, self.waiting, self.jobs = 0, 0.0, 0, [], 0


class Job(NamedTuple):
    """A URL to be tried. Of several, those with the fewest tries left come first, then those that were added first."""

    left: int
    number: int
    url: str
    name: str
    host: _Host

    @property
    def host_is_down(self):
        return self.host.failed >= HOST_DOWN


class RetryQueue:
    """The URLs that were added and have not ended. All times are seconds, `now` is on the caller's clock.

    Args:
      per_host: tries at the same time of one host.
      attempts: tries of a URL.
      wait: before the second try; it doubles with each. What a host asks for counts if it is more.
      max_wait: the longest wait; a URL whose host asks for more is not tried again.
    """

    def __init__(self, per_host, attempts, wait, max_wait):
        self.per_host, self.attempts, self.wait, self.max_wait = per_host, attempts, wait, max_wait
        self._hosts, self._new, self._later, self._added, self._ended = {}, deque(), [], 0, 0

    def __len__(self):
        return self._added - self._ended

    @property
    def untouched(self):
        """How many URLs were added that nobody has looked at."""
        return len(self._new)

    def add(self, url, name):
        """Adds a URL of the host `name`."""
        host = self._hosts.setdefault(name, _Host())
        host.jobs += 1
        self._new.append(Job(self.attempts, self._added, url, name, host))
        self._added += 1

    def take(self, now) -> Job | None:
        """Returns a job to be tried now, after which `tried` is to be called, or None.

        A job whose `host_is_down` is not to be tried; for such a one `end` is to be called.
        """
        while job := self._next(now):
            if job.host_is_down:
                return job
            if job.host.not_before > now:
                heapq.heappush(self._later, (job.host.not_before, job))
            elif job.host.active >= self.per_host:
                heapq.heappush(job.host.waiting, job)
            else:
                job.host.active += 1
                return job
        return None

    def _next(self, now):
        if self._later and self._later[0][0] <= now:
            return heapq.heappop(self._later)[1]
        return self._new.popleft() if self._new else None

    def sleep(self, now) -> float | None:
        """Returns for how long no job that waits for its time is due, 0 if one is; None if none waits for its time."""
        return max(0.0, self._later[0][0] - now) if self._later else None

    def tried(self, job, now, temporary, asked=0.0) -> bool:
        """Takes note of a try's end. Returns whether another will follow; if not, the job has ended.

        Args:
          temporary: whether it failed and may do better later.
          asked: how long the host asks to be left alone.
        """
        host = job.host
        host.active -= 1
        passes = temporary and asked <= self.max_wait
        if passes:
            host.not_before = max(host.not_before, now + asked)
        again = passes and job.left > 1
        if again:
            # Half of the wait is random, so that many do not come back together.
            wait = min(self.max_wait, self.wait * 2 ** (self.attempts - job.left)) * random.uniform(0.5, 1)
            heapq.heappush(self._later, (now + max(wait, asked), job._replace(left=job.left - 1)))
        else:
            host.failed = host.failed + 1 if temporary else 0
            self.end(job, now)
        # The place is free for one that waits; when the host is down, all of them are to know.
        for _ in range(len(host.waiting) if job.host_is_down else min(1, len(host.waiting))):
            heapq.heappush(self._later, (now, heapq.heappop(host.waiting)))
        return again

    def end(self, job, now):
        """Takes note that a job, which was taken, is not to be tried any more."""
        self._ended += 1
        job.host.jobs -= 1
        # Lists may name millions of hosts; only of those that behaved nothing needs to be known.
        if not job.host.jobs and not job.host.failed and job.host.not_before <= now:
            del self._hosts[job.name]
