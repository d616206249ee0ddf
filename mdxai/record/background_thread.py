"""One background thread that runs one job after another and keeps the error of the last."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class BackgroundThread:
    """Runs jobs one after another in one thread, which starts with the first job.

    All jobs run in the same thread, because malloc keeps what a thread frees for that thread.
    """

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._job: Future[None] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a job is running."""
        return self._job is not None and not self._job.done()

    def run(self, job: Callable[[], None]) -> None:
        """Run a job in the thread; in this thread, when the interpreter is shutting down."""
        try:
            self._job = self._executor.submit(job)
        except RuntimeError:  # no more threads are started
            job()

    def wait(self) -> None:
        """Wait for the last job and raise its error, unless an earlier call did."""
        job, self._job = self._job, None
        if job is not None:
            job.result()

    def wait_silently(self) -> None:
        """Wait for the last job and forget its error."""
        job, self._job = self._job, None
        if job is not None:
            job.exception()

    def close(self) -> None:
        """Let the thread end after the last job, whose error `wait` still raises."""
        self._executor.shutdown()
