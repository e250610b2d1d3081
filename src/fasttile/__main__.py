"""The command `fasttile`, also as `python -m fasttile`: the process around `fasttile.cli.main`."""

import os
import sys


def main() -> None:
    """Run the command of this process, and end it.

    Ctrl-C while the command is imported ends it at once: modules drop a KeyboardInterrupt, or make
    another exception of it.
    """
    try:
        import signal

        def end_process(number: int, frame: object) -> None:
            try:
                os.write(2, b"fasttile: interrupted; nothing was left behind\n")
            finally:
                os._exit(130)

        is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if is_default:
            signal.signal(signal.SIGINT, end_process)
        from fasttile.cli import main as run_command

        if is_default:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        code = run_command()
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # the result is complete, or is not
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)
    except KeyboardInterrupt:
        try:
            from fasttile.storage.system import error_descriptor

            line = b"fasttile: interrupted; nothing was left behind\n"
            os.write(error_descriptor() or 2, line)
        finally:
            os._exit(130)
    if code == 130:
        # Python may end by the signal that it has seen instead of by the exit code.
        import atexit

        from fasttile.cli.output import flush_output

        atexit._run_exitfuncs()
        flush_output()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
