"""Threads: the same bits on any number of them, whoever shares what with whom."""

import functools
import importlib
import os
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import reference
import sharing
from builds import DTYPES
from calls import calls
from kernel_calls import kernel_calls
from sharing import PATIENCE, WORK, all_passes, blas, in_threads, python, run_on_two
from strategies import Case

import cyconv
from cyconv import kernels, threads
from cyconv.algorithms import depthwise, direct, fused, lowering, nonfused, winograd
from cyconv.geometry import geometry
from cyconv.kernels import fallback
from cyconv.plan import plan

MODULES = {
    "fallback": fallback,
    **{name: importlib.import_module(f"cyconv.kernels._{name}") for name in kernels.loadable()},
}

cut_small = pytest.fixture(autouse=True)(sharing.cut_small)


def test_set_num_threads():
    for number in (1, 3, np.int64(2), sys.maxsize):
        cyconv.set_num_threads(number)
        assert cyconv.get_num_threads() == number
        assert type(cyconv.get_num_threads()) is int
    for wrong, error in [(0, ValueError), (-1, ValueError), (sys.maxsize + 1, ValueError)] + [
        (wrong, TypeError) for wrong in (1.0, True, None, "2", [2])
    ]:
        with pytest.raises(error, match=r"\bn\b"):
            cyconv.set_num_threads(wrong)
    assert cyconv.get_num_threads() == sys.maxsize


@pytest.mark.parametrize("value", ["0", "-1", "2.5", "two", " ", "1e3", "+"])
def test_wrong_variable(monkeypatch, value):
    monkeypatch.setenv("CYCONV_NUM_THREADS", value)
    with pytest.raises(ValueError, match="CYCONV_NUM_THREADS"):
        threads._initial_threads()


def test_variable():
    program = "import cyconv; print(cyconv.get_num_threads())"
    assert python(program, CYCONV_NUM_THREADS="3") == (0, "3\n")
    assert python(program, CYCONV_NUM_THREADS="") == (0, f"{threads.available_cores()}\n")
    code, printed = python(program, CYCONV_NUM_THREADS="0")
    assert code == 1
    assert "ValueError: CYCONV_NUM_THREADS" in printed


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])
@pytest.mark.parametrize("name", WORK)
def test_bits_do_not_depend_on_threads(monkeypatch, name, dtype):
    algorithm, case = WORK[name]
    offered = []
    run = threads._Pool.run
    monkeypatch.setattr(
        threads._Pool, "run", lambda pool, *args: (offered.append(args), run(pool, *args))
    )
    cyconv.set_num_threads(1)
    alone = all_passes(algorithm, case, dtype)
    assert not offered
    for number in (2, 3, 7):
        cyconv.set_num_threads(number)
        offered.clear()
        assert all_passes(algorithm, case, dtype) == alone, number
        assert len(offered) >= 2  # a pass has one region or more; some sums are a single tile
        assert all(region.count > 1 and 0 < helpers < number for region, helpers in offered)


def test_the_caller_begins_at_the_front_and_workers_at_the_back():
    """So that each core finds in its cache what it has worked on in the call before."""
    cyconv.set_num_threads(2)
    for _ in range(3):
        done = {}
        together = threading.Barrier(2)

        def task(tile, done=done, together=together):
            done.setdefault(threading.get_ident(), []).append(tile)
            together.wait(PATIENCE)

        threads.run(task, 8, 1.0, blas=False)
        assert done.pop(threading.get_ident()) == [0, 1, 2, 3]
        assert list(done.values()) == [[7, 6, 5, 4]]


@pytest.mark.parametrize("run", [threads.drain, functools.partial(threads.run, blas=False)])
def test_nobody_is_warned_of_what_a_tile_computes(run):
    """On any thread: where Inf and NaN go is the definition's affair."""
    for number, seconds in ((1, 1.0), (2, 0.0), (2, 1.0)):
        cyconv.set_num_threads(number)
        results = []
        run(lambda tile, results=results: results.append(np.ones(3) / np.zeros(3)), 2, seconds)
        assert len(results) > 0
        np.testing.assert_array_equal(results, np.inf)


def test_the_work_is_of_all_kinds():
    """So that the table above does not quietly become one of the same."""

    def made(name, pass_):
        algorithm, case = WORK[name]
        g = geometry(case.x_shape, case.w_shape, case.stride, case.padding, 1, case.groups)
        return plan(g, np.dtype(np.float32), pass_, algorithm)

    def tiles(name, pass_):
        return made(name, pass_).tiles

    assert isinstance(tiles("gemm, by filters", "forward"), lowering.ByFilter)
    assert len(tiles("gemm, dx in phases", "input_grad")) == 2
    by_channels = tiles("gemm, dx by channels", "input_grad")
    assert len(by_channels) == 1
    assert len({share.channels.start for share in by_channels[0]}) > 1
    for name in ("gemm", "gemm, line", "pointwise"):
        assert sum(map(len, tiles(name, "weight_grad"))) > 1
    assert tiles("winograd, few tiles", "forward").few
    assert tiles("winograd, few tiles", "weight_grad").few
    for name in ("winograd", "winograd, one image"):
        assert not tiles(name, "forward").few
        assert len(tiles(name, "forward").tiles) > 1
        summed = tiles(name, "weight_grad")
        assert not summed.few
        assert len(summed.parts if kernels.VECTOR else summed.tiles) > 1
    for name in ("winograd", "winograd, few tiles"):
        assert isinstance(tiles(name, "forward"), fused.Blocks) == kernels.VECTOR
        assert isinstance(tiles(name, "weight_grad"), fused.Sums) == kernels.VECTOR
    for name, (algorithm, _) in WORK.items():
        if algorithm == "direct":
            wanted = depthwise if name.startswith("depthwise") else direct
            for pass_ in ("forward", "input_grad"):
                assert made(name, pass_).algorithm is wanted, name
                if wanted is direct:
                    assert all(len(part.tasks) > 1 for part in tiles(name, pass_).parts), name
            if wanted is direct:
                assert made(name, "weight_grad").algorithm is direct
                assert len(tiles(name, "weight_grad").shares) > 1
    assert len(tiles("direct, strided", "input_grad").parts) == 4


def test_chunks_of_a_winograd_sum(monkeypatch):
    """Too large for the others: several chunks, each a region of its own."""
    for module in (nonfused, fused):
        monkeypatch.setattr(module, "CHUNK_BYTES", 1)
    monkeypatch.setattr(nonfused, "SUM_TILES", 16)
    monkeypatch.setattr(fused, "SUM_COLUMNS", 16)
    monkeypatch.setattr(fused, "FEW_TILES", 0)
    case = Case((2, 96, 22, 23), (96, 96, 3, 3), padding=1)
    bits = []
    for number in (1, 2, 3, 7):
        cyconv.set_num_threads(number)
        bits.append(all_passes("winograd", case))
    g = geometry(case.x_shape, case.w_shape, 1, 1, 1, 1)
    cut = winograd.tiles(g, 4, "weight_grad")
    assert len(cut.chunks if kernels.VECTOR else cut.tiles) > 1
    assert all(b == bits[0] for b in bits)


def test_every_tile_once():
    cyconv.set_num_threads(4)
    for _ in range(20):
        counts = np.zeros(500, int)

        def task(index, counts=counts):
            counts[index] += 1

        threads.run(task, len(counts), 1.0, blas=False)
        assert (counts == 1).all()


def test_a_region_ends_when_its_tiles_are_done():
    """Not when they have been taken: the caller waits for a slow worker, awake or asleep."""
    for seconds in (0, 1e-5, 0.05):
        done = []

        def task(index, seconds=seconds, done=done):
            if threading.current_thread() is not threading.main_thread():
                time.sleep(seconds)
            done.append(index)

        run_on_two(task)
        assert sorted(done) == [0, 1]


def test_no_more_threads_than_set():
    """Also where there are more workers, from before, who may be awake."""
    for number in (7, 2, 3, 7, 1, 2):
        cyconv.set_num_threads(number)
        seen = set()

        def task(index, seen=seen):
            seen.add(threading.get_ident())
            time.sleep(1e-3)

        threads.run(task, 30, 1.0, blas=False)
        assert len(seen) <= number


def test_blas_is_held_to_one_thread():
    before = blas()
    within = []
    run_on_two(lambda index: within.append(blas()))
    assert within == [[1] * len(before)] * 2
    run_on_two(lambda index: within.append(blas()), use_blas=False)
    assert within[2:] == [before] * 2
    assert blas() == before


@pytest.mark.parametrize(
    ("loaded", "unpacked"),
    [
        ([("openblas", "SkylakeX")], True),
        ([("mkl", None), ("openblas", "Cooperlake")], True),
        ([("openblas", "Haswell")], False),
        ([("mkl", "SkylakeX")], False),  # only OpenBLAS is known
        ([], False),
    ],
)
def test_which_blas_does_not_pack_small_matrices(monkeypatch, loaded, unpacked):
    libraries = [SimpleNamespace(internal_api=a, architecture=b) for a, b in loaded]
    found = threads._Blas()
    found._libraries = libraries
    with monkeypatch.context() as patch:
        patch.setattr(threads, "_blas", found)
        assert threads.small_unpacked() == unpacked


def test_blas_is_held_by_any_thread():
    """Whoever set the limit before, and whoever ends last: the first caller, or another."""
    before = blas()
    run_on_two()  # the main thread has had the limit
    within = []

    def hold(index):
        within.append(blas())

    in_threads(2, lambda i: threads.run(hold, 1, 0, blas=True))
    assert within == [[1] * len(before)] * 2
    assert blas() == before
    first_in, second_in, first_out = (threading.Event() for _ in range(3))

    def second():
        assert first_in.wait(PATIENCE)
        threads._blas.hold("second")
        second_in.set()
        assert first_out.wait(PATIENCE)
        threads._blas.release("second")

    other = threading.Thread(target=second)
    other.start()
    threads._blas.hold("first")
    first_in.set()
    assert second_in.wait(PATIENCE)
    threads._blas.release("first")
    assert blas() == [1] * len(before)
    first_out.set()
    other.join()
    assert blas() == before


def test_many_callers():
    """Sixteen at once, of all kinds, while the number of threads changes under them."""
    names = list(WORK)
    before, alone = blas(), {name: all_passes(*WORK[name]) for name in names}
    interval = sys.getswitchinterval()
    over = threading.Event()

    def change():
        number = 0
        while not over.wait(1e-3):
            number = number % 5 + 1
            cyconv.set_num_threads(number)

    changer = threading.Thread(target=change)
    changer.start()
    sys.setswitchinterval(1e-5)
    try:
        chosen = [[names[(i + 3 * k) % len(names)] for k in range(3)] for i in range(16)]
        results = in_threads(16, lambda i: [all_passes(*WORK[name]) for name in chosen[i]])
    finally:
        sys.setswitchinterval(interval)
        over.set()
        changer.join()
    assert results == [[alone[name] for name in row] for row in chosen]
    assert blas() == before
    assert not threads._pool._open


@pytest.mark.parametrize("module", MODULES)
def test_signs(module):
    """Who waits hears a word that changes, and a bell, and first gives a sign of its own."""
    word, bell, sign = (np.array([n], np.longlong) for n in (3, 5, 7))
    wait = MODULES[module].wait_for_change
    assert not wait(word, 3, 1000, 0)
    assert wait(word, 2, 1000, 0)
    assert not wait(word, 3, 1000, 0, bell, 5, sign)
    assert wait(word, 3, 1000, 0, bell, 4, sign)
    assert wait(word, 2, 1000, 0, bell, 5, sign)
    assert (word[0], bell[0], sign[0]) == (3, 5, 10)


@pytest.mark.parametrize("module", MODULES)
def test_kernels_that_threads_share_ring_a_bell(module):
    """Once a call, whatever there is left to do, if they are to."""
    calls = kernel_calls(kernels.kernels_of(MODULES[module]), np.float32)
    shared = {name: call for name, call in calls.items() if "rings" in call.arguments}
    assert len(shared) == 9 + ("depthwise_spread" in calls)
    try:
        for call in shared.values():
            bell = np.zeros(1, np.longlong)
            MODULES[module].hang_bell(bell)
            call(rings=True)
            assert bell[0] == 1
            call(rings=False)
            assert bell[0] == 1
        with pytest.raises(ValueError, match="word"):
            MODULES[module].hang_bell(np.zeros(2, np.longlong))
    finally:
        MODULES[module].hang_bell(threads._bell)


def test_which_regions_ring():
    """The bell is for helpers, who come at once; else a region is offered before it begins."""
    cyconv.set_num_threads(2)
    for name, rings in (("direct", True), ("gemm", False)):
        pool = threads._pool
        before = int(threads._bell[0]), int(pool._offers[0])
        all_passes(*WORK[name])
        assert (threads._bell[0] > before[0]) == rings, name
        assert (pool._offers[0] > before[1]) != rings, name


def test_a_convolution_within_a_tile():
    alone, before, results = all_passes(*WORK["winograd"]), blas(), []
    run_on_two(lambda index: results.append(all_passes(*WORK["winograd"])))
    assert results == [alone] * 2
    assert blas() == before


def test_where_affinity_is_forbidden(monkeypatch):
    """As in some sandboxes: it is a wish, not a need."""

    def forbidden(*_):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", forbidden, raising=False)
    monkeypatch.setattr(threads, "_pool", threads._Pool())
    assert len(set(run_on_two())) == 2
    threads._pool.close()


@pytest.mark.parametrize("after", [0, 1])
def test_where_threads_cannot_start(monkeypatch, after):
    """Not one, or no more than one."""
    alone = all_passes(*WORK["winograd"])
    monkeypatch.setattr(threads, "_pool", threads._Pool())
    start, started = threading.Thread.start, []

    def refuse(thread):
        if len(started) >= after:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    cyconv.set_num_threads(3)
    assert all_passes(*WORK["winograd"]) == alone
    assert len(threads._pool._workers) == len(started) == after
    threads._pool.close()


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("name", ["gemm", "pointwise", "winograd", "depthwise"])
def test_errstate_of_the_caller_is_his(name, number):
    """No thread warns of Inf - Inf or of overflow, and none changes what the caller has set."""
    algorithm, case = WORK[name]
    x, w, _, dy = case.arrays(np.float32)
    x[::2], x[1::2] = 3e38, -3e38
    w[:], dy[:] = 1e30, 1e30
    options = {**case.options, "algorithm": algorithm}
    cyconv.set_num_threads(number)
    with np.errstate(all="raise", under="warn"):
        state = np.geterr()
        cyconv.conv(x, w, **options)
        cyconv.conv_input_grad(dy, w, x.shape, **options)
        cyconv.conv_weight_grad(dy, x, w.shape, **options)
        assert np.geterr() == state


def test_calls_of_the_whole_face_in_sixteen_threads():
    """On the crooked case of the other tests, small and shared all the same."""
    table = calls()
    for name, call in table.items():
        wanted = [None if r is None else r.tobytes() for r in call.results()]
        cyconv.set_num_threads(3)
        for results in in_threads(16, lambda i, call=call: call.results()):
            assert [None if r is None else r.tobytes() for r in results] == wanted, name


def test_results_are_right():
    """Bits that are equal could be equally wrong."""
    cyconv.set_num_threads(3)
    for algorithm, case in WORK.values():
        x, w, b, dy = case.arrays()
        options = {**case.options, "algorithm": algorithm}
        for got, wanted in (
            (cyconv.conv(x, w, b, **options), reference.conv(x, w, b, **case.options)),
            (
                cyconv.conv_input_grad(dy, w, x.shape, **options),
                reference.conv_input_grad(dy, w, x.shape, **case.options),
            ),
            (
                cyconv.conv_weight_grad(dy, x, w.shape, **options),
                reference.conv_weight_grad(dy, x, w.shape, **case.options),
            ),
        ):
            assert abs(got - wanted).max() <= 1e-12 * abs(wanted).max()
