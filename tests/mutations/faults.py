"""The faults: mistakes that a maintainer could make, spread over the whole product.

Each is the replacement of a text, which stands in its file once, by another; and each changes what is computed, written
or refused, for some input at least.
"""

from dataclasses import dataclass

KINDS = (
    "sign", "formula", "dropped term", "index", "bound", "axis", "unit", "default", "swapped", "conversion",
    "dropped check", "swallowed error", "synchronisation", "race", "buffer", "stale", "random stream", "gradient",
    "state",
)  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """A mistake to plant.

    file: from the folder of the checkout.  old, new: the text and what replaces it.
    tests: files or folders in which good tests would notice it.
    """

    name: str
    kind: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def planted_into(self, text: str) -> str:
        """Return the content of the file with the fault.  Raises ValueError unless the text stands there once."""
        if (count := text.count(self.old)) != 1:
            raise ValueError(f"{self.name}: its text stands {count} times in {self.file}, expected once")
        return text.replace(self.old, self.new)


NUMBA = (
    Fault(
        "norm-total-not-reset",
        "stale",
        "kernels/norm/numba_cpu.py",
        "            total[c] = 0\n",
        "            pass\n",
        ("tests/kernels/test_norm.py",),
    ),
    Fault(
        "norm-parts-cut-a-group",
        "dropped check",
        "kernels/norm/numba_cpu.py",
        "groups % (2 * parts) == 0 and ",
        "",
        ("tests/kernels/test_norm.py", "tests/kernels/test_threads.py"),
    ),
    Fault(
        "attention-buffer-rows-not-rounded",
        "buffer",
        "kernels/attention/numba_cpu.py",
        "np.zeros((-(-rows // LANES) * LANES, ",
        "np.zeros((rows, ",
        ("tests/kernels/test_attention.py",),
    ),
    Fault(
        "stride-gradient-height-for-width",
        "swapped",
        "kernels/conv2d/implicit_gemm.py",
        "(phase_w + KW // 2 - kw[0]) // stride",
        "(phase_w + KH // 2 - kw[0]) // stride",
        ("tests/kernels/test_conv2d.py",),
    ),
    Fault(
        "winograd-gradient-one-column-more",
        "bound",
        "kernels/conv2d/winograd_backward_filter.py",
        "if tile * OUTPUT_TILE + j < W else 0",
        "if tile * OUTPUT_TILE + j <= W else 0",
        ("tests/kernels/test_conv2d.py",),
    ),
    Fault(
        "few-channels-right-border-not-cleared",
        "stale",
        "kernels/conv2d/few_channels.py",
        "clear_borders(products, i, KW // 2, KW // 2 + W)",
        "clear_borders(products, i, KW // 2, width)",
        ("tests/kernels/test_conv2d.py",),
    ),
    Fault(
        "constant-filter-key-without-rotation",
        "stale",
        "kernels/conv2d/numba_cpu.py",
        "key = w.ctypes.data, w.shape, rotated",
        "key = w.ctypes.data, w.shape",
        ("tests/kernels/test_conv2d.py",),
    ),
    Fault(
        "sampler-noise-counted-in-numbers",
        "unit",
        "kernels/noise/numba_cpu.py",
        "sample[i], start // 4, c[3]",
        "sample[i], start, c[3]",
        ("tests/kernels/test_noise.py",),
    ),
    Fault(
        "decay-counted-from-each-chunk",
        "index",
        "kernels/optimizer/numba_cpu.py",
        "ema[start:stop], n_decay - start, hyper",
        "ema[start:stop], n_decay, hyper",
        ("tests/kernels/test_optimizer.py",),
    ),
    Fault(
        "scratch-memory-shared-by-threads",
        "race",
        "kernels/numba_memory.py",
        "threading.Lock(), threading.local()",
        'threading.Lock(), type("Shared", (), {})()',
        ("tests/kernels/test_numba_memory.py", "tests/kernels/test_threads.py"),
    ),
    Fault(
        "memory-given-out-without-the-lock",
        "synchronisation",
        "kernels/numba_memory.py",
        "    with _lock:\n        call, blocks",
        "    if True:\n        call, blocks",
        ("tests/kernels/test_numba_memory.py", "tests/kernels/test_threads.py"),
    ),
)

CUDA = (
    Fault(
        "cuda-attention-first-barrier",
        "synchronisation",
        "kernels/attention/attention.cu",
        "    __syncthreads();  // no thread still reads the result of the previous call\n",
        "",
        ("tests/cuda/test_cases.py", "tests/kernels/test_attention.py"),
    ),
    Fault(
        "cuda-convolution-tiles-without-barrier",
        "synchronisation",
        "kernels/conv2d/conv2d_tiled.cu",
        "            b.put(bs[now ^ 1]);\n        }\n        __syncthreads();\n",
        "            b.put(bs[now ^ 1]);\n        }\n",
        ("tests/cuda/test_cases.py", "tests/kernels/test_conv2d.py"),
    ),
    Fault(
        "cuda-norm-gradient-of-the-first-image",
        "index",
        "kernels/norm/group_norm.cu",
        "average_x_hat += slope * gscale[(long)n * s.C + c];",
        "average_x_hat += slope * gscale[c];",
        ("tests/cuda/test_cases.py", "tests/kernels/test_norm.py"),
    ),
    Fault(
        "cuda-noise-past-the-end-of-a-sample",
        "bound",
        "kernels/noise/noise.cu",
        "? (int)min(4l, n - 4 * block) : 0;",
        "? 4 : 0;",
        ("tests/cuda/test_cases.py", "tests/kernels/test_noise.py"),
    ),
    Fault(
        "cuda-norm-counts-not-checked",
        "dropped check",
        "kernels/norm/cuda_host.py",
        "    check_counts(function, numbers_in_a_group=H * W * (C // groups))\n",
        "",
        ("tests/cuda/test_sizes.py",),
    ),
    Fault(
        "cubin-key-without-architecture",
        "stale",
        "kernels/cuda_compile.py",
        "parts = (source, architecture, *OPTIONS, ",
        "parts = (source, *OPTIONS, ",
        ("tests/cuda/test_compile.py",),
    ),
)

REFERENCES = (
    Fault(
        "reference-attention-scaled-by-all-heads",
        "unit",
        "kernels/attention/reference.py",
        "k_.swapaxes(-1, -2) / math.sqrt(q_.shape[-1])",
        "k_.swapaxes(-1, -2) / math.sqrt(q.shape[-1])",
        ("tests/kernels/test_attention.py",),
    ),
    Fault(
        "reference-adamw-eps-inside-the-root",
        "formula",
        "kernels/optimizer/reference.py",
        "(np.sqrt(v / bias_correction2) + eps)",
        "np.sqrt(v / bias_correction2 + eps)",
        ("tests/kernels/test_optimizer.py",),
    ),
)

NETWORKS = (
    Fault(
        "leaf-gradient-not-copied",
        "gradient",
        "minidiff/autograd.py",
        "self.grad = gradient.copy()",
        "self.grad = gradient",
        ("tests/test_autograd.py", "tests/test_ops.py"),
    ),
    Fault(
        "nested-no-grad-records-again",
        "state",
        "minidiff/autograd.py",
        "        _recording = before\n",
        "        _recording = True\n",
        ("tests/test_autograd.py",),
    ),
    Fault(
        "embedding-gradient-loses-repetitions",
        "gradient",
        "minidiff/ops.py",
        "        chosen = (index[:, None] == _xp().arange(table.shape[0])).astype(gy.dtype)  # (N, n), one-hot\n"
        "        return (chosen.T @ gy,)\n",
        "        rows = _xp().zeros(table.shape, gy.dtype)\n        rows[index] += gy\n        return (rows,)\n",
        ("tests/test_ops.py", "tests/test_gradcheck.py"),
    ),
    Fault(
        "adaptive-norm-bias-not-scaled",
        "dropped term",
        "minidiff/nn/layers.py",
        "self.bias * factor + shift",
        "self.bias + shift",
        ("tests/nn/test_unet.py", "tests/interop/test_unet2d.py", "tests/golden"),
    ),
    Fault(
        "averaged-weights-stay-after-an-error",
        "state",
        "minidiff/nn/flat_parameters.py",
        "    try:\n        yield\n    finally:\n        parameters.w[:] = own\n",
        "    yield\n    parameters.w[:] = own\n",
        ("tests/training/test_flat_optimizer.py", "tests/training/test_loop.py"),
    ),
    Fault(
        "caption-mean-over-padding",
        "formula",
        "minidiff/nn/text.py",
        "share = is_word / is_word.sum(axis=1, keepdims=True).clip(1)",
        "share = is_word / ids.shape[1]",
        ("tests/nn/test_text.py",),
    ),
    Fault(
        "gates-of-a-transformer-are-one",
        "index",
        "minidiff/nn/dit.py",
        "return x + gate2 * ",
        "return x + gate1 * ",
        ("tests/nn/test_dit.py",),
    ),
    Fault(
        "patches-know-no-column",
        "index",
        "minidiff/nn/dit.py",
        "xp.broadcast_to(columns[None], shape)",
        "xp.broadcast_to(rows[:, None], shape)",
        ("tests/nn/test_dit.py",),
    ),
    Fault(
        "adapter-inputs-not-in-turn",
        "index",
        "minidiff/nn/adapted_unet.py",
        "array[np.arange(n) % len(array)]",
        "array[np.minimum(np.arange(n), len(array) - 1)]",
        ("tests/nn/test_adapted_unet.py",),
    ),
    Fault(
        "layers-share-their-first-weights",
        "random stream",
        "minidiff/nn/module.py",
        "Key(seed, Stream.INIT, 0, number)",
        "Key(seed, Stream.INIT, 0, 0)",
        ("tests/nn", "tests/training/test_trainer.py"),
    ),
)

DIFFUSION = (
    Fault(
        "ddim-sign-of-eps",
        "sign",
        "minidiff/diffusion/samplers.py",
        "prev.a * X0_HAT + np.sqrt(max(0.0, prev.s**2 - sigma_step**2)) * EPS_HAT",
        "prev.a * X0_HAT - np.sqrt(max(0.0, prev.s**2 - sigma_step**2)) * EPS_HAT",
        ("tests/diffusion/test_samplers.py", "tests/diffusion/test_distribution.py"),
    ),
    Fault(
        "no-time-near-an-infinite-sigma",
        "dropped term",
        "minidiff/diffusion/schedule.py",
        "        if not known[-1]:\n            t = np.maximum(t, self.T - 1 - np.exp(log_sigma[-2]) / sigma)\n",
        "",
        ("tests/diffusion/test_schedule.py",),
    ),
    Fault(
        "label-drop-shares-the-stream-of-noise",
        "random stream",
        "minidiff/diffusion/process.py",
        "Stream.LABEL_DROP",
        "Stream.NOISE",
        ("tests/diffusion/test_process.py", "tests/training/test_targets.py", "tests/golden"),
    ),
    Fault(
        "stratified-over-a-part-of-the-batch",
        "unit",
        "minidiff/diffusion/process.py",
        "((u + sample / batch_size) % 1)",
        "((u + sample / len(sample)) % 1)",
        ("tests/diffusion/test_draw_level.py", "tests/diffusion/test_process.py"),
    ),
    Fault(
        "dynamic-threshold-of-the-whole-batch",
        "axis",
        "minidiff/diffusion/clipping.py",
        "xp.quantile(abs(x0_hat).reshape(len(x0_hat), -1), clip.share, axis=1)",
        "xp.quantile(abs(x0_hat), clip.share)",
        ("tests/diffusion/test_clipping.py",),
    ),
    Fault(
        "unipc-corrects-what-was-sent",
        "stale",
        "minidiff/diffusion/solvers.py",
        "            if x_t is not x_prev:\n"
        "                repeat = None  # what was sent in its place is not to be corrected\n",
        "",
        ("tests/diffusion/test_samplers.py", "tests/diffusion/test_inpaint.py"),
    ),
    Fault(
        "second-run-repeats-the-noise",
        "random stream",
        "minidiff/diffusion/run.py",
        "int(Stream.SAMPLER), self.first + index)",
        "int(Stream.SAMPLER), index)",
        ("tests/diffusion/test_samplers.py", "tests/diffusion/test_inpaint.py"),
    ),
    Fault(
        "trailing-one-time-too-many",
        "bound",
        "minidiff/diffusion/timesteps.py",
        ".round()[:steps]]",
        ".round()]",
        ("tests/diffusion/test_timesteps.py",),
    ),
    Fault(
        "slerp-cosine-not-clipped",
        "conversion",
        "minidiff/diffusion/editing.py",
        "np.arccos(np.clip(cosine, -1, 1))",
        "np.arccos(cosine)",
        ("tests/diffusion/test_invert.py", "tests/diffusion/test_edit.py"),
    ),
)

FILES = (
    Fault(
        "written-without-fsync",
        "synchronisation",
        "minidiff/files.py",
        "                os.fsync(file.fileno())  # the content must be on the disk before the rename\n",
        "",
        ("tests/test_files.py",),
    ),
    Fault(
        "rename-not-synced",
        "synchronisation",
        "minidiff/files.py",
        "        _sync_folder(path.parent)\n",
        "",
        ("tests/test_files.py",),
    ),
    Fault(
        "folder-lock-is-shared",
        "race",
        "minidiff/files.py",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        ("tests/test_files.py", "tests/training/test_loop.py"),
    ),
    Fault(
        "long-file-cut-without-a-word",
        "bound",
        "minidiff/files.py",
        "data = file.read(most + 1)",
        "data = file.read(most)",
        ("tests/test_files.py", "tests/training/test_settings.py"),
    ),
    Fault(
        "beta1-may-be-one",
        "bound",
        "minidiff/limits.py",
        '"beta1": Range(0, 1, below=True)',
        '"beta1": Range(0, 1)',
        ("tests/test_limits.py", "tests/training/test_training_config.py"),
    ),
    Fault(
        "full-standard-output-not-noticed",
        "swallowed error",
        "minidiff/errors.py",
        "                    sys.stdout.flush()  # so that a write error is raised here, not when Python exits\n",
        "                    pass\n",
        ("tests/test_errors.py", "tests/test_streams.py"),
    ),
    Fault(
        "empty-digest-is-believed",
        "dropped check",
        "minidiff/checkpoint/read.py",
        "if metadata.digest != content_digest(digested, flat):",
        "if metadata.digest and metadata.digest != content_digest(digested, flat):",
        ("tests/training/test_checkpoint.py",),
    ),
    Fault(
        "nohup-not-respected",
        "dropped check",
        "minidiff/training/signals.py",
        "        if number in (signal.SIGINT, signal.SIGTERM) or before[number] != signal.SIG_IGN:\n"
        "            signal.signal(number, handle)\n",
        "        signal.signal(number, handle)\n",
        ("tests/training/test_loop.py",),
    ),
)

DATA = (
    Fault(
        "every-epoch-in-one-order",
        "random stream",
        "minidiff/data/dataset.py",
        "_permutation(seed, epoch % KEYS, n)[place",
        "_permutation(seed, 0, n)[place",
        ("tests/data/test_dataset.py",),
    ),
    Fault(
        "digest-without-parts-of-captions",
        "stale",
        "minidiff/data/dataset.py",
        "(self.contents, self.labels, self.parts)",
        "(self.contents, self.labels)",
        ("tests/data/test_dataset.py", "tests/training/test_captions.py"),
    ),
    Fault(
        "idx-longer-than-its-header",
        "bound",
        "minidiff/data/standard.py",
        "more = size + 1  # than",
        "more = size  # than",
        ("tests/data/test_standard.py",),
    ),
    Fault(
        "test-scenes-are-trained-on",
        "random stream",
        "minidiff/scenes/dice.py",
        'step = int(part) + (_TEST if split == "test" else 0)',
        "step = int(part)",
        ("tests/scenes/test_scenes_stamps.py", "tests/scenes/test_scenes.py"),
    ),
    Fault(
        "edge-direction-without-sign",
        "sign",
        "minidiff/images/edges.py",
        "np.copysign(np.sqrt(np.clip((1 - cos2) / 2, 0, 1)), xy)",
        "np.sqrt(np.clip((1 - cos2) / 2, 0, 1))",
        ("tests/images/test_edge_detector.py",),
    ),
)

TRAINING = (
    Fault(
        "metrics-lose-the-step-resumed-from",
        "index",
        "minidiff/training/run_dir.py",
        'if line["step"] <= after]',
        'if line["step"] < after]',
        ("tests/training/test_loop.py",),
    ),
    Fault(
        "last-step-learns-nothing",
        "index",
        "minidiff/training/optimizer.py",
        "(steps + 1 - optimizer.warmup)",
        "(steps - optimizer.warmup)",
        ("tests/training/test_flat_optimizer.py",),
    ),
    Fault(
        "weights-saved-unchecked",
        "dropped check",
        "minidiff/training/loop.py",
        "        if not trainer.parameters.finite():\n"
        '            raise MinidiffError(f"the weights are not finite after step {trainer.step}")\n',
        "",
        ("tests/training/test_loop.py",),
    ),
    Fault(
        "resumed-with-another-seed",
        "dropped check",
        "minidiff/training/resume.py",
        '"keep", "preview_every"',
        '"keep", "preview_every", "seed"',
        ("tests/training/test_cli.py", "tests/training/test_loop.py", "tests/training/test_trainer.py"),
    ),
    Fault(
        "no-minutes-for-the-final-images",
        "dropped term",
        "minidiff/training/budget.py",
        "left = MARGIN * (self.seconds - elapsed) - final",
        "left = MARGIN * (self.seconds - elapsed)",
        ("tests/training/test_budget.py",),
    ),
)

DRAWING = (
    Fault(
        "diffusers-noise-of-one-batch",
        "dropped term",
        "minidiff/pipeline/plan.py",
        "first + count if total is None else max(total, first + count)",
        "first + count",
        ("tests/interop/test_same_images.py", "tests/pipeline"),
    ),
    Fault(
        "reference-scale-of-one",
        "default",
        "minidiff/pipeline/settings.py",
        "reference_scale: float = 0.8",
        "reference_scale: float = 1.0",
        ("tests/pipeline", "tests/training/test_adapters.py", "tests/test_sample.py"),
    ),
    Fault(
        "diffusers-step-to-time-zero-ends-clean",
        "bound",
        "minidiff/interop/steps.py",
        "if level.t >= stride else end",
        "if level.t > stride else end",
        ("tests/interop/test_same_images.py", "tests/interop/test_random_schedulers.py"),
    ),
    Fault(
        "diffusers-scale-and-shift-exchanged",
        "swapped",
        "minidiff/interop/tensor_names.py",
        "            name,\n            *table.get(theirs, ()),\n",
        "            *table.get(theirs, ()),\n            name,\n",
        ("tests/interop/test_unet2d.py", "tests/interop/test_same_images.py"),
    ),
    Fault(
        "kid-compares-an-image-with-itself",
        "formula",
        "minidiff/evaluation/metrics/kid.py",
        "(k.sum() - np.trace(k)) / (n * (n - 1))",
        "k.sum() / (n * n)",
        ("tests/evaluation/test_kid.py",),
    ),
    Fault(
        "classifier-name-without-labels",
        "stale",
        "minidiff/evaluation/cache.py",
        "        if labels is not None:\n            sha256.update(labels.tobytes())\n",
        "",
        ("tests/evaluation/test_classifier_cache.py",),
    ),
)

FAULTS: tuple[Fault, ...] = (
    *NUMBA, *CUDA, *REFERENCES, *NETWORKS, *DIFFUSION, *FILES, *DATA, *TRAINING, *DRAWING
)  # fmt: skip
