"""Rounds: what is compared runs once in each, so that whatever else the machine does meanwhile bears on all alike."""

import time


def in_rounds(ways, rounds, warm_up=1):
    """Calls all functions of `ways`, {name: function}, once a round; returns {name: what they returned, a list}.

    Another one begins each round, for machines that become slower. The `warm_up` rounds before, in which functions are
    traced and files come into the page cache, do not count.
    """
    names = list(ways)
    results = {name: [] for name in names}
    for k in range(rounds + warm_up):
        first = k % len(names)
        for name in names[first:] + names[:first]:
            result = ways[name]()
            if k >= warm_up:
                results[name].append(result)
    return results


def seconds(function, times=1):
    """Returns the seconds of one call, of `times` calls in a row."""
    begin = time.perf_counter()
    for _ in range(times):
        function()
    return (time.perf_counter() - begin) / times
