"""Solution of exercise 19, and one that adds on the second way around as well."""


def around(rank, n, x, add):
    for k in range(n - 1):
        arrived = yield (rank - k) % n, x[(rank - k) % n].copy()
        x[(rank - k - 1) % n] += arrived
    for k in range(n - 1):
        arrived = yield (rank + 1 - k) % n, x[(rank + 1 - k) % n].copy()
        x[(rank - k) % n] = arrived + add * x[(rank - k) % n]


def ring(rank, n, x):
    return around(rank, n, x, 0)


def wrong_ring(rank, n, x):
    return around(rank, n, x, 1)
