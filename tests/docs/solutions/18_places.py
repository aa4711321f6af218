"""Solution of exercise 18, and one in which an array may lie on one that the same call needs."""


def placed(arrays, strictly):
    offsets, done = [0] * len(arrays), []
    for i in sorted(range(len(arrays)), key=lambda i: -arrays[i][0]):
        size, first, last = arrays[i]
        beside = [j for j in done if arrays[j][1] < last + strictly and first < arrays[j][2] + strictly]
        for j in sorted(beside, key=lambda j: offsets[j]):
            if offsets[i] + size > offsets[j]:
                offsets[i] = max(offsets[i], offsets[j] + arrays[j][0])
            else:
                break
        done.append(i)
    return offsets


def place(arrays):
    return placed(arrays, 1)


def wrong_place(arrays):
    return placed(arrays, 0)
