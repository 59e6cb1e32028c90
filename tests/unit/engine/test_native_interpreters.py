"""The extension in isolated interpreters with own GILs: one engine, one set of blocks, one mapped model."""

from __future__ import annotations

# The preload rule: these must be imported by the main interpreter before any other (python/cpython#136421).
import datetime  # noqa: F401
import sqlite3  # noqa: F401
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from walle_engine import _native
from walle_engine._native import Tensor

_interpreters = pytest.importorskip("_interpreters")

type Create = Callable[[], int]


@pytest.fixture
def create() -> Iterator[Create]:
    """Create isolated interpreters and destroy them afterwards."""
    made: list[int] = []

    def one() -> int:
        made.append(_interpreters.create("isolated"))
        return made[-1]

    yield one
    for interpreter in made:
        _interpreters.destroy(interpreter)


def run(interpreter: int, source: str, **names: str | int) -> None:
    """Execute source there; an exception there is an assertion error here."""
    if names:
        _interpreters.set___main___attrs(interpreter, names)
    failure = _interpreters.exec(interpreter, textwrap.dedent(source))
    assert failure is None, failure.formatted


def test_it_loads_and_raises_our_errors(create: Create, perceptron: Path) -> None:
    run(
        create(),
        """
        from walle_engine import _native
        from walle_shared.errors import ModelError, UnsupportedError, WalleError
        session = _native.Model(path).session()
        assert session.run({"x": [[1, 2, 3]]})["y"].tolist() == [[4.0, 0.0]]
        import sys
        assert "cffi" not in sys.modules and "numpy" not in sys.modules
        try:
            _native.Model("/nowhere.wmodel")
        except WalleError as error:
            assert "nowhere" in str(error)
        else:
            raise AssertionError
        """,
        path=str(perceptron),
    )


def test_a_tensor_crosses_by_handle_and_comes_back(create: Create) -> None:
    before = _native.live_blocks()
    first, second = create(), create()
    shared = Tensor((3,), "F32", [1, 2, 3])
    back = Tensor((1,), "U64")
    run(
        first,
        """
        from walle_engine._native import Tensor
        t = Tensor.from_handle(handle)
        memoryview(t)[0] = 10.0
        onward = t.handle()
        answer = Tensor.from_handle(back)
        memoryview(answer)[0] = onward
        del t, answer
        """,
        handle=shared.handle(),
        back=back.handle(),
    )
    run(
        second,
        """
        from walle_engine._native import Tensor
        t = Tensor.from_handle(handle)
        assert t.tolist() == [10.0, 2.0, 3.0]
        memoryview(t)[2] = 30.0
        try:
            Tensor.from_handle(handle)
        except ValueError:
            pass
        else:
            raise AssertionError
        del t
        """,
        handle=back.tolist()[0],
    )
    assert shared.tolist() == [10.0, 2.0, 30.0]
    del shared, back
    assert _native.live_blocks() == before


def test_blocks_die_with_their_interpreter() -> None:
    before = _native.live_blocks()
    interpreter = _interpreters.create("isolated")
    run(interpreter, "from walle_engine._native import Tensor\nkept = [Tensor((100,)) for _ in range(10)]")
    assert _native.live_blocks() == before + 10
    _interpreters.destroy(interpreter)
    assert _native.live_blocks() == before


def test_four_interpreters_run_one_model_at_once(create: Create, perceptron: Path) -> None:
    before = _native.live_blocks()
    results = [Tensor((1,), "I64") for _ in range(4)]
    start = threading.Barrier(4)
    failures: list[BaseException] = []

    def work(interpreter: int, result: Tensor) -> None:
        try:
            start.wait(timeout=30)
            run(
                interpreter,
                """
                from walle_engine._native import Model, Tensor
                session = Model(path).session()
                count = 0
                for i in range(300):
                    y = session.run({"x": [[float(i), 0.0, 1.0]]})["y"].tolist()
                    count += y == [[i + 1.0, 0.0]]
                memoryview(Tensor.from_handle(result))[0] = count
                del session, y
                """,
                path=str(perceptron),
                result=result.handle(),
            )
        except BaseException as error:  # noqa: BLE001  (an assertion in a thread must reach the test)
            failures.append(error)

    threads = [threading.Thread(target=work, args=(create(), result)) for result in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert failures == []
    assert [result.tolist() for result in results] == [[300]] * 4
    del results
    assert _native.live_blocks() == before


def test_two_hundred_runs_on_one_interpreter_leave_nothing(create: Create, perceptron: Path) -> None:
    before = _native.live_blocks()
    interpreter = create()
    for i in range(200):
        result = Tensor((1, 2))
        run(
            interpreter,
            """
            from walle_engine._native import Model, Tensor
            y = Model(path).session().run({"x": [[float(i), 0.0, 1.0]]})["y"]
            memoryview(Tensor.from_handle(result)).cast("B")[:] = memoryview(y).cast("B")
            del y
            """,
            path=str(perceptron),
            result=result.handle(),
            i=i,
        )
        assert result.tolist() == [[i + 1.0, 0.0]]
    del result
    assert _native.live_blocks() == before


def test_the_model_is_mapped_once(create: Create, perceptron: Path) -> None:
    held = _native.Model(str(perceptron))
    interpreter = create()
    run(interpreter, "from walle_engine._native import Model\nmodel = Model(path)", path=str(perceptron))
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    assert maps.count(str(perceptron)) == 1
    run(interpreter, "del model")
    del held
    assert str(perceptron) not in Path("/proc/self/maps").read_text(encoding="utf-8")


def test_texts_go_in_and_out(create: Create, greeter: Path) -> None:
    run(
        create(),
        """
        from walle_engine import _native
        session = _native.Model(path).session()
        names = ["ann", "zoe", "b\\u00f6b", ""]
        result = session.run({"name": names})
        assert result["said"].tolist() == ["hello " + name for name in names]
        assert result["said"].dtype == "STRING" and result["said"].shape == (4,)
        assert result["number"].tolist() == [0, 9, 9, 9]
        held = _native.Tensor([2], "STRING", ("bob", "ann"))
        assert session.run({"name": held})["number"].tolist() == [1, 0]
        import sys
        assert "cffi" not in sys.modules and "numpy" not in sys.modules
        """,
        path=str(greeter),
    )


def test_texts_cross_interpreters_by_handle(create: Create, greeter: Path) -> None:
    blocks = _native.live_blocks()
    for step in range(3):
        texts = Tensor([2], "STRING", [f"n{step}", "bob"])
        run(
            create(),
            """
            from walle_engine import _native
            texts = _native.Tensor.from_handle(handle)
            said = _native.Model(path).session().run({"name": texts})["said"]
            import __main__
            __main__.answer = said.handle()
            assert said.tolist() == ["hello n%d" % step, "hello bob"]
            assert _native.Tensor.from_handle(__main__.answer).tolist() == said.tolist()
            del texts, said
            """,
            path=str(greeter),
            handle=texts.handle(),
            step=step,
        )
        del texts
    assert _native.live_blocks() == blocks


def test_what_is_no_text_is_refused(create: Create, greeter: Path) -> None:
    run(
        create(),
        """
        from walle_engine import _native
        from walle_shared.errors import EngineError
        session = _native.Model(path).session()

        class Fading:
            # Makes its items anew, and another kind of them in time.
            def __len__(self): return 3
            def __getitem__(self, i):
                if i >= 3: raise IndexError
                return "n%d" % i if i < 2 else i

        for wrong in ([1], ["a", None], ["a\\0b"], ["\\udc80"], [["a"], ["b", "c"]], b"ab", Fading(), 3.5):
            try:
                session.run({"name": wrong})
            except (TypeError, ValueError, EngineError):
                pass
            else:
                raise AssertionError(wrong)
            try:
                _native.Tensor([3], "STRING", wrong)
            except (TypeError, ValueError):
                pass
            else:
                raise AssertionError(wrong)
        try:
            memoryview(_native.Tensor([1], "STRING", ["a"]))
        except BufferError as error:
            assert "tolist" in str(error)
        assert _native.Tensor([2, 2], "STRING", "abcd".split() * 4).tolist() == [["abcd"] * 2] * 2
        assert _native.Tensor([], "STRING", "one").tolist() == "one"
        assert _native.Tensor([0, 2], "STRING", []).tolist() == []
        assert _native.Tensor([1], "STRING").tolist() == [""]
        """,
        path=str(greeter),
    )
