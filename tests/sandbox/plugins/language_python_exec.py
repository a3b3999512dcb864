"""Runs a Pulumi program in this process, connected to the engine. Runs in the environment of the program.

Does what `pulumi-language-python-exec` of Pulumi 3.259.0 does: the same arguments, the same exit codes. After a message
that the user can act on, the code is 1; after the traceback of a bug, 32, which the language host takes as reported.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import runpy
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pulumi
import pulumi.runtime

REPORTED = 32


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser()
    for name in ("monitor", "engine", "project", "stack", "pwd", "dry_run", "organization", "root_directory"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--parallel", type=int)
    parser.add_argument("program")
    parser.add_argument("arguments", nargs="*")
    return parser.parse_args()


def connect(options: argparse.Namespace) -> None:
    """Give the SDK the configuration and the addresses of the engine."""
    pulumi.runtime.set_all_config(pulumi.runtime.get_config_env(), pulumi.runtime.get_config_secret_keys_env())
    settings = pulumi.runtime.Settings(
        monitor=options.monitor,
        engine=options.engine,
        project=options.project,
        stack=options.stack,
        parallel=options.parallel,
        dry_run=options.dry_run == "true",
        organization=options.organization,
        root_directory=options.root_directory,
    )
    pulumi.runtime.configure(settings)


def traceback_of(error: Exception, program: Path) -> str:
    """The traceback from the program's first line on; all of it if the program is not in it."""
    main = program if program.suffix else program / "__main__.py"
    frames = traceback.TracebackException.from_exception(error)
    for place, frame in enumerate(frames.stack):
        if Path(frame.filename).absolute() == main.absolute():
            del frames.stack[:place]
            break
    return "".join(frames.format())


def run(program: str) -> None:
    """Run a file, or `__main__.py` of a folder."""
    runpy.run_path(program, run_name="__main__")


def main() -> int:
    """Run the program; returns the exit code."""
    options = parsed()
    connect(options)
    sys.argv = [options.program, *options.arguments]
    if options.pwd:
        os.chdir(options.pwd)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    executor = ThreadPoolExecutor(max_workers=max(options.parallel or 1, 1) * 4)
    loop.set_default_executor(executor)
    # A program that ends early leaves futures behind, which is no news to its user.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    try:
        loop.run_until_complete(pulumi.runtime.run_in_stack(lambda: run(options.program)))
    except pulumi.RunError as error:
        pulumi.log.error(str(error))
        return 1
    except Exception as error:  # the boundary to the user's program
        text = traceback_of(error, Path(options.program))
        pulumi.log.error(f"Program failed with an unhandled exception:\n{text}")
        return REPORTED
    finally:
        executor.shutdown(wait=True)
        loop.close()
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
