"""Which numbers are drawn, in which portions: short and long draws in turn, odd short ones, lengths off the blocks."""

DRAWS = {
    0: [(3,), (17,), (2,), (16,), (1,), (15,), (31,), (5, 3)],
    42: [(2, 3, 4, 4), (1,), (1,), (1,), (100,), (4,)],
    2**40 + 7: [(1000,), (7,), (33,), (0,), (1,)],
    2**64 - 1: [(14,), (18,)],
}
