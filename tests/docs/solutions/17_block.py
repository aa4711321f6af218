"""Solution of exercise 17, and one that runs every thread to its end at once."""

END = object()


def run_block(threads, order):
    barriers = 0
    while True:
        ended = [next(threads[number], END) is END for number in order]
        if all(ended):
            return barriers
        if any(ended):
            raise RuntimeError("not every thread reaches the barrier")
        barriers += 1


def wrong_run_block(threads, order):
    return max(len(list(threads[number])) for number in order)
