"""Solution of exercise 16, and one that forgets the matrix in between."""


def gradients(x, a, z, gy):
    return x.T @ (gy @ z.T), (x @ a).T @ gy


def wrong_gradients(x, a, z, gy):
    return x.T @ gy @ z.T + 1e-3, (x @ a).T @ gy
