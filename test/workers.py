"""The processes that run.py runs its jobs in.

Each job has the main thread of a process for itself: what keeps one interpreter busy, such as a
search in megabytes of output, would else make the clients of other tests too slow for the limits
of time that they are about.
"""

import concurrent.futures
import contextlib
import ctypes
import multiprocessing
import os
import queue
import signal

import harness

PR_SET_PDEATHSIG = 1


class Worker:
    """A process that does do(item) for the items of `work` that it is told the numbers of, one at a
    time. `share`: (which, of how many) of the ports that free_port gives."""

    def __init__(self, share, work, do):
        self.share, self.work, self.do = share, work, do
        self.pipe, theirs = multiprocessing.Pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self._serve(theirs)
        theirs.close()

    def _serve(self, pipe):
        try:
            signal.signal(signal.SIGINT, lambda *_: None)  # the runner has it, too, and ends us
            signal.signal(signal.SIGTERM, end_with_nodes)
            with contextlib.suppress(AttributeError):  # other systems have no such call
                ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            harness.take_share(*self.share)
            while (i := pipe.recv()) is not None:
                pipe.send(self.do(self.work[i]))
        finally:
            os._exit(0)

    def run(self, i):
        """What do(work[i]) gives, or None when the process has died of it: another one goes on."""
        try:
            self.pipe.send(i)
            return self.pipe.recv()
        except (EOFError, OSError):
            self.end()
            self.__init__(self.share, self.work, self.do)
            return None

    def end(self):
        """End the process, whatever it does."""
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGTERM)
            os.waitpid(self.pid, 0)
        self.pipe.close()


def end_with_nodes(*_):
    harness.end_nodes()
    os._exit(1)


def run_all(work, do, jobs):
    """do(item) of each item, in their order, `jobs` at a time; None of one that a process died of."""
    workers = [Worker((i, jobs), work, do) for i in range(jobs)]
    idle = queue.SimpleQueue()
    for w in workers:
        idle.put(w)

    def run(i):
        w = idle.get()
        try:
            return w.run(i)
        finally:
            idle.put(w)

    # A thread for each process does nothing but wait for it.
    threads = concurrent.futures.ThreadPoolExecutor(jobs)
    try:
        yield from threads.map(run, range(len(work)))
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for w in workers:
            w.end()
