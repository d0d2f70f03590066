"""Asked to stop, by Ctrl-C or by whatever ends processes, a run comes to the end of its step first."""

import signal
import threading


class Interruption:
    """Inside of this block SIGINT and SIGTERM wait: ``asked`` says whether one came, and the end raises for it.

    A second SIGINT raises at once, a second SIGTERM does not: a cluster and ``torchrun`` may both send one.  Handlers
    of the user's own stay, and only the main thread has any.

    Raises:
        KeyboardInterrupt: at the end of the block, if it was asked for.

    >>> import os
    >>> try:
    ...     with Interruption() as interruption:
    ...         os.kill(os.getpid(), signal.SIGTERM)
    ...         print("still here:", interruption.asked)
    ... except KeyboardInterrupt:
    ...     print("stopped")
    still here: True
    stopped
    """

    def __init__(self):
        self.asked, self.before = False, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            now = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
            own = (signal.default_int_handler, signal.SIG_DFL)
            self.before = {number: handler for number, handler in now.items() if handler in own}
            for number in self.before:
                signal.signal(number, self._ask)
        return self

    def _ask(self, number, frame):
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, kind, *failure):
        for number, handler in self.before.items():
            signal.signal(number, handler)
        if self.asked and kind is None:
            raise KeyboardInterrupt
