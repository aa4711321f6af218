"""Solution of exercise 10, and one that only compares letters in their places."""


def distance(one, other):
    d = [[i + j if i * j == 0 else 0 for j in range(len(other) + 1)] for i in range(len(one) + 1)]
    for i in range(1, len(one) + 1):
        for j in range(1, len(other) + 1):
            exchange = d[i - 1][j - 1] + (one[i - 1] != other[j - 1])
            d[i][j] = min(exchange, d[i - 1][j] + 1, d[i][j - 1] + 1)
    return d[-1][-1]


def nearest(word, words):
    return min(words, key=lambda each: distance(word, each))


def wrong_nearest(word, words):
    return min(words, key=lambda each: sum(a != b for a, b in zip(word, each)) + abs(len(word) - len(each)))
