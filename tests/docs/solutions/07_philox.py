"""Solution of exercise 7, and a round that swaps the two halves of the key."""


def philox_round(c0, c1, c2, c3, k0, k1):
    first, second = 0xCD9E8D57 * c2, 0xD2511F53 * c0
    return first >> 32 ^ c1 ^ k0, first & 0xFFFFFFFF, second >> 32 ^ c3 ^ k1, second & 0xFFFFFFFF


def wrong_philox_round(c0, c1, c2, c3, k0, k1):
    return philox_round(c0, c1, c2, c3, k1, k0)
